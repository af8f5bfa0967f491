"""Redis alone: best effort, since a failover loses what was acknowledged a moment ago."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import local
from typing import Any, get_args
from uuid import UUID, uuid4

from django.core import checks

from django_idempotency.core.leases import Held, HeldStatus, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import ClaimLost, LeaseLost, StoreFailed, StoreUnavailable
from django_idempotency.stores import scripts
from django_idempotency.stores.base import Store
from django_idempotency.stores.caches import check_cache
from django_idempotency.stores.connections import RedisConnection, RedisRefused, RedisUnavailable
from django_idempotency.stores.encoding import Mark, decode, encode_mark, encode_record

logger = logging.getLogger("django_idempotency")

_STATUSES: dict[bytes, HeldStatus] = {name.encode(): name for name in get_args(HeldStatus)}


@dataclass
class RedisTransaction:
    """Collects what is kept until the block ends; effects elsewhere do not commit with it."""

    claims: list[Lease] = field(default_factory=list)
    completed: dict[bytes, tuple[Lease, Record, timedelta]] = field(default_factory=dict)

    def rollback(self) -> None:
        """Forget what was to be kept."""
        self.completed.clear()


class RedisStore(Store):
    """Keeps records in Redis alone, one hash a key, each change a script that compares and sets by the server's clock.

    Best effort: effects do not commit with their outcome, and a failover or an eviction loses records. Use it where
    doing something twice is a nuisance and no more.

    ``cache`` is the alias of a django-redis cache. ``claim`` is how long a claim holds that is no lease: it must
    outlast the view, for afterwards, or after a crash, the key is free.
    """

    def __init__(
        self,
        *,
        cache: str = "default",
        claim: timedelta = timedelta(minutes=1),
        prefix: str = "idempotency:record:",
    ) -> None:
        self.cache = cache
        self.redis = RedisConnection(cache, breaker_failures=10, breaker_pause=1.0)
        self._claim = claim
        self._prefix = prefix
        self._local = local()

    @contextmanager
    def transaction(self) -> Iterator[RedisTransaction]:
        """Open a block at whose end outcomes are kept, or claims released."""
        opened, outer = RedisTransaction(), getattr(self._local, "transaction", None)
        self._local.transaction = opened
        try:
            yield opened
        except BaseException:
            opened.rollback()
            self._release_all(opened)
            raise
        finally:
            self._local.transaction = outer
        for lease, record, ttl in opened.completed.values():
            retention = int(ttl.total_seconds() * 1000)
            if not self._run(scripts.COMPLETE, lease.operation, *self._owner(lease), encode_record(record), retention):
                raise LeaseLost if lease not in opened.claims else ClaimLost
        self._release_all(opened)

    def _release_all(self, opened: RedisTransaction) -> None:
        for lease in opened.claims:
            if lease.operation.key.digest not in opened.completed:
                try:
                    self.release(lease, unknown=False)
                except StoreUnavailable:
                    logger.warning("Operation %s is left to its claim.", lease.operation.key.prefix)

    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run for a while, or return the live record. Raises OperationInProgress."""
        found = self._reserve(operation, self._claim, frees_itself=True)
        if isinstance(found, Held):
            if found.record:
                return found.record
            found.refuse(operation)
        self._transaction.claims.append(found)
        return found

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False) -> datetime:
        """Keep the outcome when the block ends. Raises ClaimLost for what was never claimed."""
        if not isinstance(claim, Lease):
            raise ClaimLost
        expires_at = datetime.now(UTC) + ttl
        record = Record(fingerprint=claim.fingerprint, outcome=outcome, expires_at=expires_at)
        self._transaction.completed[claim.operation.key.digest] = (claim, record, ttl)
        return expires_at

    def reserve(self, operation: Operation, *, lease: timedelta, ttl: timedelta) -> Lease | Held:
        """Keep a claim where nothing is known of the operation; else tell what is."""
        return self._reserve(operation, lease, frees_itself=False)

    def _reserve(self, operation: Operation, lease: timedelta, *, frees_itself: bool) -> Lease | Held:
        owner, fingerprint = uuid4(), operation.fingerprint
        request = encode_mark(Mark(fingerprint=fingerprint))
        facts = self._run(scripts.RESERVE, operation, owner.bytes, request, _ms(lease), int(frees_itself))
        if facts is None:
            return Lease(operation=operation, owner=owner, fingerprint=fingerprint, steps=Steps(), store=self)
        try:
            return _held(facts)
        except (LookupError, ValueError, TypeError, RecursionError) as error:
            logger.error("Operation %s: Redis holds something that is not ours to read.", operation.key.prefix)
            raise StoreFailed("Redis holds something at this key that is not ours to read.") from error

    def take_over(self, operation: Operation, held: Held, *, lease: timedelta) -> Lease | None:
        """Change the owner of what is still as it was seen, and go on after the steps that are there by now."""
        owner, seen = uuid4(), held.owner.bytes if held.owner else b""
        arguments = (seen, held.attempt, held.status, owner.bytes, _ms(lease))
        steps = self._run(scripts.TAKE_OVER, operation, *arguments)
        if steps is None:
            return None
        return Lease(
            operation=operation,
            owner=owner,
            attempt=held.attempt + 1,
            fingerprint=held.fingerprint,
            steps=Steps.decode(steps.decode()),
            store=self,
        )

    def renew(self, held: Lease, *, lease: timedelta) -> bool:
        """Move the deadline; tell whether the lease was still held."""
        return bool(self._run(scripts.RENEW, held.operation, *self._owner(held), _ms(lease)))

    def write_steps(self, lease: Lease, steps: Steps, *, in_transaction: bool = False) -> None:
        """Keep steps at once. Raises LeaseLost, StoreUnavailable."""
        if not self._run(scripts.WRITE_STEPS, lease.operation, *self._owner(lease), steps.encode()):
            raise LeaseLost

    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is still held."""
        status = "unknown" if unknown else "released" if lease.steps else ""
        self._run(scripts.RELEASE, lease.operation, *self._owner(lease), status, lease.steps.encode())

    def count_expired(self) -> int:
        """Return 0: Redis forgets by itself."""
        return 0

    def purge(self, *, batch_size: int) -> Iterator[int]:
        """Yield nothing: Redis forgets by itself."""
        return iter(())

    def check(self) -> list[checks.CheckMessage]:
        """Check the cache alias, and say that this is best effort."""
        return [
            *check_cache(self.cache),
            checks.Warning(
                "RedisStore is best effort: effects do not commit with their outcome, and a failover loses records.",
                hint="Use CachedDatabaseStore where nothing may happen twice; silence this warning where it may.",
                id="idempotency.W030",
            ),
        ]

    def _run(self, script: str, operation: Operation, *arguments: Any) -> Any:
        # Unkeyed, as in the database: rotating a secret must not make a live key unknown.
        try:
            return self.redis.run(script, self._prefix + operation.key.digest.hex(), *arguments)
        except RedisRefused as error:
            raise StoreFailed from error
        except RedisUnavailable as error:
            raise StoreUnavailable from error

    def _owner(self, lease: Lease) -> tuple[bytes]:
        return (lease.owner.bytes,)

    @property
    def _transaction(self) -> RedisTransaction:
        transaction = getattr(self._local, "transaction", None)
        if not isinstance(transaction, RedisTransaction):
            raise RuntimeError("claim() and complete() need an open transaction().")
        return transaction


def _held(facts: list[bytes]) -> Held:
    """Read what RESERVE tells of a hash. Raises LookupError, ValueError, TypeError, RecursionError."""
    status, request, owner, attempt, has_lapsed, steps, outcome = facts
    record, mark = decode(outcome), decode(request)
    fingerprint = record.fingerprint if isinstance(record, Record) else getattr(mark, "fingerprint", None)
    if fingerprint is None or (status == b"completed") != isinstance(record, Record):
        raise ValueError("no such record")
    return Held(
        status=_STATUSES[status],
        fingerprint=fingerprint,
        owner=UUID(bytes=owner) if len(owner) == 16 else None,
        attempt=int(attempt),
        has_lapsed=has_lapsed == b"1",
        steps=Steps.decode(steps.decode()),
        record=record if isinstance(record, Record) else None,
    )


def _ms(duration: timedelta) -> int:
    return max(int(duration.total_seconds() * 1000), 1)
