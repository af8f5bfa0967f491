"""What is derived from the charges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.models import Count, Sum

from demo_project.models import Charge, ChargeTotal
from django_idempotency.reprocessing import QuerySetSource, VersionedProjection


class ChargeTotals(VersionedProjection):
    """Number and sum of the charges by user. A charge may be read twice: its user is counted anew."""

    model = ChargeTotal
    version = 1
    source = QuerySetSource(Charge.objects.all(), by=("created_at", "id"), lag=timedelta(minutes=1))

    def apply(self, into: Any, rows: Sequence[Charge]) -> None:
        """Count the users of these charges."""
        users = Charge.objects.filter(user_id__in={row.user_id for row in rows}).order_by("user_id")
        totals = users.values("user_id").annotate(charges=Count("id"), amount_cents=Sum("amount_cents"))
        into.objects.bulk_create(
            [into(**total) for total in totals],
            update_conflicts=True,
            unique_fields=["user_id"],
            update_fields=["charges", "amount_cents"],
        )

    def verify(self, old: Any, new: Any) -> None:
        """Refuse a version that knows less than the live one."""
        super().verify(old, new)
        if old is not None:
            counts = [model.objects.aggregate(total=Sum("charges"))["total"] or 0 for model in (old, new)]
            assert counts[0] <= counts[1], f"{counts[1]} charges, not {counts[0]} or more"
