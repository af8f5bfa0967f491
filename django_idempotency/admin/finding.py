"""Exact search: by key, digest, request id or scope, each along an index."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django.db.models import Q, QuerySet

from django_idempotency.admin.filters import known_operations
from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.models import Record

#: Rows that a search shows at most.
FOUND = 200
_DIGITS = re.compile("[0-9a-f]{8,64}")


def digest_range(term: str) -> tuple[bytes, bytes] | None:
    """Return the first and the last digest that begins with these hexadecimal digits, None if they are not such."""
    digits = term.lower()
    if not _DIGITS.fullmatch(digits):
        return None
    first, last = (bytes.fromhex(digits.ljust(64, filler)) for filler in "0f")
    return first, last


def record_ids(alias: str, term: str, *, scope: str = "", operation: str = "") -> list[int]:
    """Return the ids of the records that are named by a key, a digest or a request id.

    Where keys are not kept, the key is hashed: with the scope, and the operation or each that is known.
    """
    ways = [Q(key=term) & ~Q(key=""), Q(request_id=term) & ~Q(request_id="")]
    if bounds := digest_range(term):
        ways.append(Q(digest__range=bounds))
    if scope:
        operations = [operation] if operation else sorted(known_operations(alias))
        ways.append(Q(digest__in=list(_digests(term, scope, operations))))
    found: set[int] = set()
    for way in ways:
        found.update(Record.objects.using(alias).filter(way).values_list("pk", flat=True)[:FOUND])
    return sorted(found, reverse=True)[:FOUND]


def _digests(key: str, scope: str, operations: Iterable[str]) -> Iterable[bytes]:
    for operation in operations:
        yield IdempotencyKey(value=key, scope=tuple(scope.split(" / ")), operation=operation).digest


def is_scope(rows: QuerySet[Any], term: str) -> bool:
    """Tell whether any of the records is of this scope."""
    return rows.filter(scope=term).exists()
