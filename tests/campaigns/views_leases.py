"""Views whose claims are leases: a row alone, and payouts that also call a bank over HTTP."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import Any

import httpx
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency import Policy
from tests.views import PaymentViewSet

LEASE = timedelta(seconds=1)
TTL = timedelta(minutes=30)  # less than the hour by which clocks are set wrong


class LeasedPaymentViewSet(PaymentViewSet):
    """One row a request."""

    idempotency = Policy(required=True, claim="lease", lease=LEASE, ttl=TTL)


class PayoutViewSet(LeasedPaymentViewSet):
    """One row a request, after a transfer that may be repeated with its derived key."""

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        reference = self.transfer(request)
        response = super().create(request, *args, **kwargs)
        response.data = {**response.data, "bank_reference": reference}
        return response

    def transfer(self, request: Request) -> str:
        return request.idempotency.step("transfer", lambda key: pay(key, request.data["amount"]), provider="bank")


class CarefulPayoutViewSet(PayoutViewSet):
    """The same, at most once: whatever breaks off is for an operator to look at."""

    idempotency = Policy(required=True, claim="lease", lease=LEASE, ttl=TTL, on_crash="unknown")


class KeylessPayoutViewSet(PayoutViewSet):
    """The same, with a step that does not say that the bank tells a repetition.

    The bank gets a key all the same: the campaign counts by it.
    """

    def transfer(self, request: Request) -> str:
        key = request.idempotency.derive_key("bank", "transfer")
        return request.idempotency.step("transfer", lambda: pay(key, request.data["amount"]))


def pay(key: str, amount: int) -> str:
    """Transfer money and return the bank's reference."""
    answer = _client().post("/transfers", json={"amount_cents": amount}, headers={"Idempotency-Key": key})
    answer.raise_for_status()
    return answer.json()["reference"]


@cache
def _client() -> httpx.Client:
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=os.environ["BANK_URL"], timeout=30, trust_env=False, verify=False, limits=limits)
