"""A store with Redis in front that lets a test act between the last statement of a request and its COMMIT."""

from __future__ import annotations

from datetime import datetime, timedelta

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim
from django_idempotency.stores.cached import CachedDatabaseStore
from tests.conformance.views_databases import moments


class WatchedCachedStore(CachedDatabaseStore):
    """Does not commit with its last statement, and reaches a moment between the two."""

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False) -> datetime:
        expires_at = super().complete(claim, outcome, ttl=ttl)
        moments.reach("after complete")
        return expires_at
