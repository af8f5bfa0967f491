"""What stores must do, as plainly as it can be said: one operation after the other, in one dictionary, without time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from django_idempotency.core.fingerprints import Fingerprint
from django_idempotency.core.leases import Held, HeldStatus, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation, Record
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import FingerprintMismatch, OperationInProgress, OutcomeUnknown
from django_idempotency.testing import CREATED

Verdict = Literal["forget", "done", "not done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a key. Of a completed one, stores need not tell who completed it in which attempt."""

    fingerprint: Fingerprint
    status: HeldStatus
    owner: UUID | None = None
    attempt: int = 0
    has_lapsed: bool = False
    steps: str = "[]"
    outcome: Outcome | None = None
    has_expired: bool = field(default=False, compare=False)

    @classmethod
    def seen(cls, found: Held | Record) -> Entry:
        """Make an entry of what a store tells."""
        record = found if isinstance(found, Record) else found.record
        if record:
            return cls.completed(record.fingerprint, record.outcome)
        assert isinstance(found, Held)
        return cls(
            fingerprint=found.fingerprint,
            status=found.status,
            owner=found.owner,
            attempt=found.attempt,
            has_lapsed=found.has_lapsed,
            steps=found.steps.encode(),
        )

    @classmethod
    def completed(cls, fingerprint: Fingerprint, outcome: Outcome, *, has_expired: bool = False) -> Entry:
        """Make an entry of an outcome."""
        return cls(fingerprint=fingerprint, status="completed", outcome=outcome, has_expired=has_expired)


class Reference:
    """Every verb returns what a store must tell; those of a lease, whether it was held."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.effects: list[str] = []

    def live(self, operation: Operation) -> Entry | None:
        """Return what stands in the way."""
        entry = self.entries.get(operation.key.digest)
        return None if entry is None or entry.has_expired else entry

    def claim(self, operation: Operation) -> Entry | type[Exception] | None:
        """Return a completed entry, the error of any other one, None for the right to run."""
        entry = self.live(operation)
        if entry is None or entry.outcome:
            return entry
        if entry.fingerprint != operation.fingerprint:
            return FingerprintMismatch
        is_running = entry.status == "in_progress" and not entry.has_lapsed
        return OperationInProgress if is_running else OutcomeUnknown

    def keep(self, operation: Operation, outcome: Outcome, effect: str, *, has_expired: bool) -> None:
        """Commit the effect of a claim with its outcome."""
        entry = Entry.completed(operation.fingerprint, outcome, has_expired=has_expired)
        self.entries[operation.key.digest] = entry
        self.effects.append(effect)

    def reserve(self, lease: Lease) -> None:
        """Let a lease begin."""
        self.entries[lease.operation.key.digest] = Entry(
            fingerprint=lease.operation.fingerprint, status="in_progress", owner=lease.owner, attempt=1
        )

    def may_take_over(self, operation: Operation, seen: Entry) -> bool:
        """Tell whether what was seen is still there, and nobody's."""
        entry = self.live(operation)
        if entry is None or entry.outcome or (entry.owner, entry.status) != (seen.owner, seen.status):
            return False
        return entry.status != "in_progress" or entry.has_lapsed

    def take_over(self, lease: Lease) -> Entry:
        """Let another lease go on; return what it goes on from."""
        attempt = self.entries[lease.operation.key.digest].attempt + 1
        return self._change(lease, status="in_progress", owner=lease.owner, attempt=attempt, has_lapsed=False)

    def may_resolve(self, operation: Operation, seen: Entry, *, force: bool) -> bool:
        """Tell whether an operator may decide: on what is still there as it was seen, and nobody's unless forced."""
        entry = self.entries.get(operation.key.digest)
        if entry is None or entry.outcome or seen.status == "completed":
            return False
        as_seen = (entry.owner, entry.status, entry.steps) == (seen.owner, seen.status, seen.steps)
        was_free, is_free = (each.status != "in_progress" or each.has_lapsed for each in (seen, entry))
        return as_seen and (force or (was_free and is_free))

    def resolve(self, operation: Operation, verdict: Verdict, owner: UUID | None) -> None:
        """Let an operator forget the operation, give it an outcome, or let it go on after what is done."""
        entry = self.entries.pop(operation.key.digest)
        if verdict == "done":
            self.entries[operation.key.digest] = Entry.completed(entry.fingerprint, CREATED)
        elif verdict == "not done":
            steps = Steps.decode(entry.steps)
            steps.forget_unfinished()
            self.entries[operation.key.digest] = replace(
                entry, status="released", owner=owner, has_lapsed=False, steps=steps.encode()
            )

    def holds(self, lease: Lease) -> bool:
        """Tell whether a lease is held, whatever the time."""
        entry = self.entries.get(lease.operation.key.digest)
        return entry is not None and (entry.owner, entry.status) == (lease.owner, "in_progress")

    def renew(self, lease: Lease) -> bool:
        """Move the deadline."""
        return self.holds(lease) and bool(self._change(lease, has_lapsed=False))

    def write_steps(self, lease: Lease, steps: str) -> bool:
        """Replace the steps."""
        return self.holds(lease) and bool(self._change(lease, steps=steps))

    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is held."""
        if not self.holds(lease):
            return
        if unknown or lease.steps:
            status: HeldStatus = "unknown" if unknown else "released"
            self._change(lease, status=status, has_lapsed=False, steps=lease.steps.encode())
        else:
            del self.entries[lease.operation.key.digest]

    def complete(self, lease: Lease, outcome: Outcome, effect: str, *, has_expired: bool) -> None:
        """Commit the effect of a lease that is held with its outcome; the request is that of the first attempt."""
        fingerprint = self.entries[lease.operation.key.digest].fingerprint
        self.entries[lease.operation.key.digest] = Entry.completed(fingerprint, outcome, has_expired=has_expired)
        self.effects.append(effect)

    def lapse(self, operation: Operation) -> None:
        """Let the deadline of a lease pass."""
        entry = self.entries.get(operation.key.digest)
        if entry and entry.status == "in_progress":
            self.entries[operation.key.digest] = replace(entry, has_lapsed=True)

    def expire(self, operation: Operation) -> None:
        """Let the retention pass: only what is completed expires."""
        entry = self.entries.get(operation.key.digest)
        if entry and entry.outcome:
            self.entries[operation.key.digest] = replace(entry, has_expired=True)

    def purge(self) -> int:
        """Forget what has expired; return how much that was."""
        expired = [digest for digest, entry in self.entries.items() if entry.has_expired]
        for digest in expired:
            del self.entries[digest]
        return len(expired)

    def _change(self, lease: Lease, **changes: Any) -> Entry:
        digest = lease.operation.key.digest
        entry = self.entries[digest] = replace(self.entries[digest], **changes)
        return entry


class Marks:
    """Which requests may be marked as in flight: what has been left and not been taken back."""

    def __init__(self) -> None:
        self.left: set[tuple[bytes, bytes]] = set()

    def leave(self, operation: Operation) -> None:
        """Note what a look-up may have left."""
        self.left.add((operation.key.digest, operation.content_digest))

    def may_be_there(self, operation: Operation) -> bool:
        """Tell whether this very request may be turned away."""
        return (operation.key.digest, operation.content_digest) in self.left

    def take_back(self, operation: Operation) -> None:
        """Expect none of this request."""
        self.left.discard((operation.key.digest, operation.content_digest))

    def clear(self, operation: Operation) -> None:
        """Expect none at all of this key."""
        self.left = {(digest, content) for digest, content in self.left if digest != operation.key.digest}
