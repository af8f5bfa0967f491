"""Transactions as a bank delivers them: whole statements, without keys, and now and then twice."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from demo_project.models import BankTransaction
from demo_project.serializers import BankTransactionSerializer
from django_idempotency.writes import DedupWindow

WINDOW = DedupWindow("bank-feed", ttl=timedelta(hours=24), fields=("account", "amount_cents", "booked_on", "text"))


class BankFeedView(APIView):
    """Books a list of transactions, but none that was delivered within the last 24 hours.

    Equal lines of one statement are counted: two coffees are two transactions, on every delivery the same two.
    """

    def post(self, request: Request) -> Response:
        """Say how many were booked, and how many were duplicates."""
        lines = BankTransactionSerializer(data=request.data, many=True)
        lines.is_valid(raise_exception=True)
        with transaction.atomic():
            fresh, duplicates = WINDOW.split(lines.validated_data, counted=True)
            BankTransaction.objects.bulk_create(BankTransaction(**line) for line in fresh)
        return Response({"booked": len(fresh), "duplicates": len(duplicates)})
