"""One call on one connection: statements are run, and their rows are matched with the objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from django.db import connections, models, transaction

from django_idempotency.writes.arrays import Statement
from django_idempotency.writes.compilation import Writer
from django_idempotency.writes.recipes import Field, Recipe
from django_idempotency.writes.results import OUTCOMES, Outcome, UpsertResult
from django_idempotency.writes.row_payloads import digester
from django_idempotency.writes.rows import Entries, Key

M = TypeVar("M", bound=models.Model)
#: Rows in a batch; a savepoint for fewer costs more than it may save.
_WORTH_PROBING = 20


class Run(Generic[M]):
    """Writes batches by a recipe; ``result`` fills up."""

    def __init__(self, model: type[M], recipe: Recipe, alias: str) -> None:
        self._model, self._recipe, self._alias = model, recipe, alias
        self.writer = Writer(recipe, connections[alias])
        self.entries = Entries(model, recipe)
        self.result: UpsertResult[M] = UpsertResult()
        self._digester = digester(recipe.payload, recipe.hash_version)
        self._may_be_unchanged = self.writer.can_probe
        self._settled = [field.attname for field in self.writer.settled]

    def upsert(self, batch: dict[Key, M]) -> None:
        """Write a batch, and sort its objects by what came of them."""
        self._mark([*batch.values()])
        if len(batch) >= _WORTH_PROBING and self._may_be_unchanged and self._are_unchanged([*batch.values()]):
            self.result.unchanged.extend(batch.values())
            return
        answered: dict[Key, Outcome] = {}
        if not self.writer.is_told:
            # What is not there comes first; SQLite has one writer at a time, so that the rest is there for good.
            answered |= dict.fromkeys(self.insert(batch), "inserted")
        if left := _without(batch, answered):
            answered |= self._upsert(left)
        if left := _without(batch, answered):
            answered |= self._look_up(left)
        if left := _without(batch, answered):
            raise self.unanswered(left)
        lists = {outcome: self.result.of(outcome) for outcome in OUTCOMES}
        for key, obj in batch.items():
            lists[answered[key]].append(obj)

    def insert(self, batch: dict[Key, M]) -> dict[Key, M]:
        """Insert what is not there; return that."""
        rows = self._run(self.writer.insert([*batch.values()]), self.writer.returned, batch)
        return {key: self._settle(batch[key], self._marks(row)) for key, row in rows}

    def existing(self, batch: dict[Key, M]) -> dict[Key, M]:
        """Return the rows that have these keys, as objects of their own."""
        fields = [*self._model._meta.concrete_fields]
        names = [field.attname for field in fields]
        rows = self._run(self.writer.select(fields, [*batch.values()]), fields, batch)
        return {key: self._model.from_db(self._alias, names, row) for key, row in rows}

    def unanswered(self, batch: dict[Key, M]) -> RuntimeError:
        """Return the error of objects that are neither written nor there."""
        return RuntimeError(
            f"{self._model._meta.label}: {len(batch)} of the rows are neither written nor found by their keys; "
            "a trigger, a rule or row level security keeps them away."
        )

    def _mark(self, objs: Sequence[M]) -> None:
        recipe = self._recipe
        if recipe.revision:
            for obj in objs:
                setattr(obj, recipe.revision.attname, 1)
        if recipe.hash:
            for obj, digest in zip(objs, self._digester.all(objs), strict=True):
                setattr(obj, recipe.hash.attname, digest)
        if recipe.version and any(getattr(obj, recipe.version.attname) is None for obj in objs):
            raise ValueError(f"{recipe.version} is NULL: such a row is neither newer nor older than another.")

    def _are_unchanged(self, objs: Sequence[M]) -> bool:
        """Lock all rows of a batch, if they are there and say the same; otherwise lock none, and do not ask again.

        This is for the second run of an import: it sends keys and digests alone, and the sequence is left alone.
        """
        with transaction.atomic(using=self._alias):
            statement = self.writer.probe(objs)
            rows = self._fetch(statement, self.writer.settled) if statement else []
            if len(rows) < len(objs):
                # Not with locks in hand: what is inserted now may be waited for by who waits for one of them.
                transaction.set_rollback(True, using=self._alias)
        if len(rows) < len(objs):
            self._may_be_unchanged = False
            return False
        for row in rows:
            self._settle(objs[row[-1] - 1], row)
        return True

    def _upsert(self, batch: dict[Key, M]) -> dict[Key, Outcome]:
        answered: dict[Key, Outcome] = {}
        is_told = self.writer.is_told
        for key, row in self._run(self.writer.upsert([*batch.values()]), self.writer.returned, batch):
            self._settle(batch[key], self._marks(row))
            answered[key] = "inserted" if is_told and row[-1] else "updated"
        return answered

    def _look_up(self, batch: dict[Key, M]) -> dict[Key, Outcome]:
        """Look at rows that were not written, but are locked: only a new statement sees those of the latest rivals."""
        answered: dict[Key, Outcome] = {}
        fields = self.writer.returned
        compared = [*self._recipe.payload] if self._recipe.version else []
        selected = [*fields, *compared]
        for key, row in self._run(self.writer.select(selected, [*batch.values()]), selected, batch):
            answered[key] = self._unwritten(batch[key], row[len(fields) :])
            self._settle(batch[key], self._marks(row))
        return answered

    def _unwritten(self, obj: M, values: Sequence[Any]) -> Outcome:
        """Tell a row that says the same from one that comes too late."""
        if not self._recipe.version:
            return "unchanged"
        names = [field.attname for field in self._recipe.payload]
        found = self._model(**dict(zip(names, values, strict=True)))
        there, given = self._digester.all([found, obj])
        return "unchanged" if there == given else "stale"

    def _marks(self, row: Sequence[Any]) -> Sequence[Any]:
        """Return of a row what follows its key."""
        return row[len(self._recipe.key) :]

    def _settle(self, obj: M, marks: Sequence[Any]) -> M:
        """Give an object what the database knows of its row."""
        for name, value in zip(self._settled, marks, strict=False):
            setattr(obj, name, value)
        state = obj._state
        state.adding, state.db = False, self._alias
        return obj

    def _fetch(self, statement: Statement, fields: Sequence[Field]) -> list[Sequence[Any]]:
        with connections[self._alias].cursor() as cursor:
            cursor.execute(*statement)
            return list(self.writer.rows(fields, cursor.fetchall()))

    def _run(
        self, statement: Statement, fields: Sequence[Field], batch: dict[Key, M]
    ) -> list[tuple[Key, Sequence[Any]]]:
        rows = self._fetch(statement, fields)
        keys = self.entries.keys_of(fields, rows)
        if not all(map(batch.__contains__, keys)):
            raise ValueError(
                f"{self._model._meta.label}: the database has changed a key, or compares keys otherwise than Python "
                "(a collation that ignores case); give keys in the form in which they are stored."
            )
        return list(zip(keys, rows, strict=True))


def _without(batch: dict[Key, M], answered: dict[Key, Outcome]) -> dict[Key, M]:
    return {key: obj for key, obj in batch.items() if key not in answered} if answered else batch
