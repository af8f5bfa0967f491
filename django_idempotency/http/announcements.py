"""What the exchange tells of every answer, once: the signal that audit, log, metrics and spans listen to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_idempotency import exceptions
from django_idempotency.core import notes
from django_idempotency.core.attempts import Execution
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Claim, Operation
from django_idempotency.http.operations import operation_name
from django_idempotency.http.problems import problem_of
from django_idempotency.http.protection import opened
from django_idempotency.signals import operation_answered, operation_fenced, operation_taken_over
from django_idempotency.stores import get_store

# The first that fits; anything else has failed.
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.FingerprintMismatch, "mismatch"),
    (exceptions.OperationInProgress, "in_progress"),
    (exceptions.OutcomeNotReplayable, "replayed"),
    (exceptions.OutcomeUnknown, "unknown"),
    (exceptions.MissingKey, "rejected"),
    (exceptions.InvalidKey, "rejected"),
)


@dataclass(slots=True)
class Announcer:
    """Tells what came of one operation. A listener that fails is logged; the answer stands.

    ``check`` refuses a replay by raising. ``claim`` is that of the attempt that has run.
    """

    operation: Operation
    policy: Policy
    check: Callable[[], None]
    claim: Claim | None = None
    _has_told: bool = False

    def taken_over(self, claim: Claim) -> None:
        """Tell of a takeover."""
        operation_taken_over.send_robust(**self._facts(), attempt=claim.attempt)

    def found(self, outcome: Outcome) -> None:
        """Check a replay, and tell of it or of its refusal; nothing else is to happen in this transaction."""
        self._check()
        readable = opened(Execution(replayed=outcome), self.operation).replayed  # else it is not replayed
        noted = notes.read(readable.headers) if readable else {}
        self._tell("replayed", outcome_hash=outcome.hash, status=outcome.status, notes=noted, is_last=True)

    def answered(self, execution: Execution[HttpResponseBase]) -> None:
        """Tell what came of a run: kept, or rolled back."""
        status = execution.answer.status_code if execution.answer else None
        if kept := execution.kept:
            self._tell("executed", outcome_hash=kept.hash, status=kept.status, is_recorded=True)
        else:
            self._tell("failed" if status and status >= 500 else "rejected", status=status)

    def refused(self, error: BaseException) -> None:
        """Tell of an operation that was neither run to its end nor replayed, unless it has been told why."""
        if isinstance(error, exceptions.OutcomeNotReplayable):
            self._check()  # its problem tells Location and ETag
        if self._has_told:
            return
        outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "failed")
        problem = problem_of(error)
        if isinstance(error, exceptions.LeaseLost) and self.claim:
            operation_fenced.send_robust(**self._facts(), attempt=self.claim.attempt)
        reason = problem.code if problem else type(error).__name__
        self._tell(outcome, status=problem.status if problem else None, reason=reason)

    def _check(self) -> None:
        """Check, and tell of a refusal: the outcome is there, but not for this request."""
        try:
            self.check()
        except BaseException as error:
            self._tell("rejected", reason=type(error).__name__)
            raise

    def _tell(self, outcome: str, **facts: Any) -> None:
        claim, self._has_told = self.claim, True
        told: dict[str, Any] = {
            "outcome_hash": b"",
            "attempt": claim.attempt if claim else 0,
            "duration": claim.duration if claim else None,
            "fingerprint": self.operation.fingerprint.digest,
            "notes": {},
            "is_last": False,
            "is_recorded": False,
            "reason": "",
            **facts,
        }
        if self.operation.tallied:
            told["is_recorded"] |= get_store(self.policy.store).has_tallied(self.operation, outcome)
        operation_answered.send_robust(**self._facts(), outcome=outcome, **told)

    def _facts(self) -> dict[str, Any]:
        store, key = get_store(self.policy.store), self.operation.key
        return {
            "sender": type(store),
            "using": store.alias,
            "layer": "http",
            "operation": key.operation,
            "scope": key.scope_text,
            "digest": key.digest,
        }


def announce_rejected(request: HttpRequest, policy: Policy, error: exceptions.IdempotencyError) -> None:
    """Tell of a request whose key was refused, before it could be said which operation it is about."""
    store, problem = get_store(policy.store), problem_of(error)
    operation_answered.send_robust(
        type(store),
        using=store.alias,
        layer="http",
        operation=operation_name(request),
        scope="",
        digest=b"",
        fingerprint=b"",
        outcome="rejected",
        outcome_hash=b"",
        attempt=0,
        duration=None,
        status=problem.status if problem else None,
        reason=problem.code if problem else type(error).__name__,
        notes={},
        is_last=False,
        is_recorded=False,
    )
