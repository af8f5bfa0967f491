"""Statements as functions of PostgreSQL, which plans them once a session.

Sent as text they are planned each time, which takes longer than to run them. Unlike prepared statements, functions are
there in every session, whatever pools connections in between.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.stores import models
from django_idempotency.stores.rows import READ_FIELDS, TIME_FIELDS, WRITTEN_FIELDS


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFunction:
    """A statement with placeholders as a function; ``results`` are the types of the columns of its one row.

    Its name tells what is in it: another version of the statement is another function, so that code and database never
    mean different things by one name.
    """

    prefix: str
    statement: str = field(repr=False)
    parameters: Sequence[str]
    results: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The name, not quoted."""
        definition = "|".join((self.statement, *self.parameters, "into", *self.results))
        return f"{self.prefix}_{hashlib.sha256(definition.encode()).hexdigest()[:8]}"

    @property
    def call(self) -> str:
        """The statement that calls it, with a placeholder for each parameter."""
        source = "* FROM " if self.results else ""
        return f"SELECT {source}{self.name}({', '.join(['%s'] * len(self.parameters))})"

    @property
    def definition(self) -> str:
        """The statement that creates it."""
        numbers = count(1)
        body = re.sub("%s", lambda _: f"${next(numbers)}", self.statement)
        names = [f"result_{number}" for number, _ in enumerate(self.results)]
        signature = [*self.parameters, *(f"OUT {name} {kind}" for name, kind in zip(names, self.results, strict=True))]
        into = f" INTO {', '.join(names)}" if names else ""
        returns = "" if names else "RETURNS void "
        return (
            f"CREATE OR REPLACE FUNCTION {self.name}({', '.join(signature)}) {returns}LANGUAGE plpgsql AS "
            f"$$ BEGIN {body}{into}; END $$"
        )


def store_functions(connection: BaseDatabaseWrapper, claim: str, insert: str) -> tuple[StoredFunction, StoredFunction]:
    """Return the look-up and the last INSERT of the store as functions."""
    moments = dict.fromkeys(TIME_FIELDS, "double precision")
    written = zip(WRITTEN_FIELDS, _types_of(connection, WRITTEN_FIELDS), strict=True)
    return (
        StoredFunction(
            prefix="idempotency_claim",
            statement=claim,
            parameters=("bigint", "bigint", "bigint", "bytea"),
            results=("text", "double precision", *_types_of(connection, READ_FIELDS), "double precision"),
        ),
        StoredFunction(
            prefix="idempotency_complete",
            statement=insert,
            parameters=[moments.get(name, kind) for name, kind in written],
        ),
    )


def _types_of(connection: BaseDatabaseWrapper, fields: Iterable[str]) -> list[str]:
    """Return the types of columns as those of parameters: without lengths, and wide enough for every literal."""
    columns = [models.Record._meta.get_field(name).db_type(connection) or "" for name in fields]
    widened = {"smallint": "integer", "varchar": "text"}
    return [widened.get(kind, kind) for kind in (re.sub(r"\(\d+\)", "", column) for column in columns)]


def is_kept(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a session outlives the request, so that it pays to plan something for it."""
    kept = connection.settings_dict.get("CONN_MAX_AGE") != 0
    return kept or bool(connection.settings_dict.get("OPTIONS", {}).get("pool"))
