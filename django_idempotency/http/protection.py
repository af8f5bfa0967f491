"""Where a policy says ``body="encrypted"``: outcomes are sealed before a store sees them, and opened after it."""

from __future__ import annotations

import logging
from dataclasses import replace

from django.http.response import HttpResponseBase

from django_idempotency.conf import settings
from django_idempotency.core.attempts import Attempt, Execution, Raised
from django_idempotency.core.leases import Lease, Verdict
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.policies import Policy
from django_idempotency.core.protection import Owner, SealedSteps
from django_idempotency.core.records import Claim, Operation
from django_idempotency.exceptions import OutcomeNotReplayable, OutcomeUnreadable

logger = logging.getLogger("django_idempotency")

Ended = Attempt[HttpResponseBase] | Raised[HttpResponseBase]


def prepare(claim: Claim, policy: Policy) -> None:
    """See to it before the run that its outcome and the results of its steps can be sealed."""
    if isinstance(claim, Lease) and (policy.body == "encrypted" or claim.steps.is_sealed):
        claim.steps.protect(SealedSteps(vault=settings.vault, owner=Owner.of(claim.operation)))
    elif policy.body == "encrypted":
        _ = settings.vault  # raises now what would else undo the run


def sealed(ended: Ended, operation: Operation, policy: Policy) -> Ended:
    """Seal the outcome of a run, where the policy says so."""
    if policy.body != "encrypted":
        return ended
    if isinstance(ended, Raised):
        finish = ended.finish
        return Raised(lambda: _sealed(finish(), operation))
    return _sealed(ended, operation)


def _sealed(attempt: Attempt[HttpResponseBase], operation: Operation) -> Attempt[HttpResponseBase]:
    return replace(attempt, outcome=seal(attempt.outcome, operation)) if attempt.outcome else attempt


def sealed_verdict(verdict: Verdict, lease: Lease, policy: Policy) -> Verdict:
    """Seal what is said to have come of an operation, where the policy says so."""
    if policy.body == "encrypted" and isinstance(verdict, Outcome):
        return seal(verdict, lease.operation)
    return verdict


def seal(outcome: Outcome, operation: Operation) -> Outcome:
    """Encrypt the headers and the body of an outcome."""
    return settings.vault.seal(outcome, Owner.of(operation))


def opened(execution: Execution[HttpResponseBase], operation: Operation) -> Execution[HttpResponseBase]:
    """Open the outcome of a replay. Raises OutcomeUnreadable, OutcomeNotReplayable where it has no body."""
    outcome = execution.replayed
    if outcome is None or not outcome.sealed_with:
        return execution
    try:
        outcome = settings.vault.open(outcome, Owner.of(operation))
    except OutcomeUnreadable as error:
        logger.error("Operation %s: its outcome cannot be decrypted: %s.", operation.key.prefix, error.reason)
        raise
    if outcome.body is None:
        raise OutcomeNotReplayable(headers=outcome.headers)
    return replace(execution, replayed=outcome)
