"""What jobs tell of every call, once: the signals that audit, log, metrics and spans listen to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django_idempotency import exceptions
from django_idempotency.core import notes
from django_idempotency.core.layers import layer_of
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation
from django_idempotency.jobs.exceptions import JobFailed
from django_idempotency.signals import operation_answered, operation_fenced, operation_taken_over
from django_idempotency.stores.base import Store

# The first that fits; anything else has failed.
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.FingerprintMismatch, "mismatch"),
    (exceptions.OperationInProgress, "in_progress"),
    (exceptions.OutcomeNotReplayable, "replayed"),
    (exceptions.OutcomeUnknown, "unknown"),
    (JobFailed, "replayed"),
)


@dataclass(slots=True)
class Announcer:
    """Tells what came of one call. A listener that fails is logged; the answer stands.

    ``claim`` is that of the attempt that has run.
    """

    operation: Operation
    store: Store
    claim: Claim | None = None
    has_told: bool = False

    def taken_over(self, claim: Claim) -> None:
        """Tell of a takeover."""
        operation_taken_over.send_robust(**self._facts(), attempt=claim.attempt)

    def found(self, outcome: Outcome) -> None:
        """Tell of a replay."""
        noted = notes.read(outcome.headers)
        self._tell("replayed", outcome_hash=outcome.hash, status=outcome.status, notes=noted, is_last=True)

    def executed(self, outcome: Outcome) -> None:
        """Tell of a run whose value is kept; its record is the audit of it."""
        self._tell("executed", outcome_hash=outcome.hash, status=outcome.status, is_recorded=True)

    def refused(self, error: BaseException) -> None:
        """Tell of a call that was neither run to its end nor replayed, unless it has been told why."""
        if self.has_told:
            return
        if isinstance(error, exceptions.LeaseLost) and self.claim:
            operation_fenced.send_robust(**self._facts(), attempt=self.claim.attempt)
        outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "failed")
        if self.claim:
            outcome = "unknown" if outcome == "unknown" else "failed"  # it has run: whatever it met was inside of it
        self._tell(outcome, reason=type(error).__name__)

    def _tell(self, outcome: str, **facts: Any) -> None:
        claim, self.has_told = self.claim, True
        told: dict[str, Any] = {
            "outcome_hash": b"",
            "attempt": claim.attempt if claim else 0,
            "duration": claim.duration if claim else None,
            "fingerprint": self.operation.fingerprint.digest,
            "status": None,
            "notes": {},
            "is_last": False,
            "is_recorded": False,
            "reason": "",
            **facts,
        }
        if self.operation.tallied:
            told["is_recorded"] |= self.store.has_tallied(self.operation, outcome)
        operation_answered.send_robust(**self._facts(), outcome=outcome, **told)

    def _facts(self) -> dict[str, Any]:
        key = self.operation.key
        return {
            "sender": type(self.store),
            "using": self.store.alias,
            "layer": layer_of(key.scope_text),
            "operation": key.operation,
            "scope": key.scope_text,
            "digest": key.digest,
        }
