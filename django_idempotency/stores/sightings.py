"""Records as an operator sees them: found by digest or key, or because they wait for somebody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from django.db import connections
from django.db.models import DateTimeField, ExpressionWrapper, F, Q, QuerySet, TextField, Value
from django.db.models.fields import DurationField
from django.db.models.functions import Cast, Now
from django.utils import timezone

from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.leases import HeldStatus
from django_idempotency.core.steps import Step
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.stores import models

_FIELDS = ("digest", "operation", "scope", "status", "attempt", "owner", "has_lapsed", "age", "steps_text")
_DIGEST_DIGITS, _SHORTEST_PREFIX = 64, 8


class NoSuchRecord(IdempotencyError):
    """There is no such record."""


class SeveralRecords(IdempotencyError):
    """Several records match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A record as it was when an operator looked. ``steps_text`` are the steps as the database writes them."""

    digest: bytes
    operation: str
    scope: str
    status: HeldStatus
    attempt: int
    owner: UUID | None
    has_lapsed: bool
    age: timedelta
    steps_text: str | None = field(repr=False)

    @property
    def prefix(self) -> str:
        """As much of the digest as tells a record from ten million others; it begins as in the logs."""
        return self.digest[:8].hex()

    @property
    def is_live(self) -> bool:
        """Whether somebody held a lease on it."""
        return self.status == "in_progress" and not self.has_lapsed

    @property
    def steps(self) -> tuple[Step, ...]:
        """The outside calls that were begun or done."""
        return tuple(Step(**fields) for fields in json.loads(self.steps_text or "[]"))


def waiting(alias: str, *, limit: int) -> list[Sighting]:
    """Return what nobody works on and nobody else will settle: unknown outcomes and lapsed leases, oldest first."""
    stuck = Q(status="unknown") | Q(status="in_progress", has_lapsed=True)
    return list(_look(records(alias).filter(stuck).order_by("id")[:limit]))


def find(alias: str, *, digest: str = "", key: str = "", scope: str = "", operation: str = "") -> Sighting:
    """Return the record of a digest, or the first digits of it, or of a key. Raises NoSuchRecord, SeveralRecords."""
    seen: list[Sighting] = []
    if digest:
        seen = list(_look(_by_digest(alias, digest)))
    elif scope and operation:
        exact = IdempotencyKey(value=key, scope=tuple(scope.split(" / ")), operation=operation)
        seen = list(_look(records(alias).filter(digest=exact.digest)))
    if not digest and not seen:
        wanted = {"key": key, "scope": scope, "operation": operation}
        seen = list(_look(records(alias).filter(**{name: value for name, value in wanted.items() if value})[:10]))
    if not seen:
        raise NoSuchRecord
    if len(seen) > 1:
        raise SeveralRecords("Several records match: " + ", ".join(f"{one.prefix} ({one.operation})" for one in seen))
    return seen[0]


def records(alias: str) -> QuerySet[models.Record, Any]:
    """Return all records, with ``has_lapsed``, ``age`` and ``steps_text``."""
    now = clock(alias)
    return models.Record.objects.using(alias).annotate(
        has_lapsed=Q(lease_expires_at__lte=now),
        age=ExpressionWrapper(now - F("created_at"), DurationField()),
        steps_text=Cast("steps", TextField()),
    )


def clock(alias: str) -> Any:
    """Return the present as a database expression: of its own clock, of the host's on SQLite, which has none."""
    if connections[alias].vendor == "postgresql":
        return Now()
    return Value(timezone.now(), DateTimeField())


def look_at(alias: str, digest: bytes) -> Sighting | None:
    """Return the record of a digest, None where there is none that counts."""
    is_over = Q(status="completed", expires_at__lte=clock(alias))
    return next(_look(records(alias).filter(digest=digest).exclude(is_over)), None)


def digest_bounds(digits: str) -> tuple[bytes, bytes]:
    """Return the first and the last digest that begins with these digits. Raises NoSuchRecord where none can."""
    digits = digits.lower()
    if not re.fullmatch(f"[0-9a-f]{{{_SHORTEST_PREFIX},{_DIGEST_DIGITS}}}", digits):
        raise NoSuchRecord(f"A digest has {_SHORTEST_PREFIX} to {_DIGEST_DIGITS} hexadecimal digits.")
    first, last = (bytes.fromhex(digits.ljust(_DIGEST_DIGITS, filler)) for filler in "0f")
    return first, last


def _by_digest(alias: str, digits: str) -> QuerySet[models.Record, Any]:
    return records(alias).filter(digest__range=digest_bounds(digits))[:10]


def _look(rows: QuerySet[models.Record, Any]) -> Iterator[Sighting]:
    for row in rows.values(*_FIELDS):
        values: dict[str, Any] = {**row, "digest": bytes(row["digest"]), "has_lapsed": bool(row["has_lapsed"])}
        yield Sighting(**{**values, "status": cast(HeldStatus, row["status"])})
