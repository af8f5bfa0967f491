"""Views under leases: payouts that call a bank on the way, and what a test needs to see them live and die."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db.models import F
from django.db.models.functions import Now
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import Policy
from django_idempotency.core.leases import Lease
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.stores.models import Record
from tests.callers import Caller
from tests.campaigns.harness import eventually
from tests.campaigns.sessions import seen_from_outside
from tests.conformance.views_databases import WatchedStore, moments
from tests.conformance.views_responses import Authenticated, ScriptedView, scripted
from tests.models import Payment


class Killed(BaseException):
    """Ends a request as SIGKILL does: see MortalStore."""


class MortalStore(WatchedStore):
    """Does not release the lease of a request that was killed, since nobody is left who could."""

    def release(self, lease: Lease, *, unknown: bool) -> None:
        if not isinstance(sys.exception(), Killed):
            super().release(lease, unknown=unknown)


def kill() -> None:
    raise Killed


class Bank:
    """Pays whenever it is called, and remembers the keys that it was called with."""

    version = ""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def pay(self, key: str = "") -> str:
        self.keys.append(key)
        moments.reach("call")
        return f"paid {len(self.keys)}"

    def clear(self) -> None:
        """Forget everything."""
        self.keys.clear()
        self.version = ""


class Reconciler:
    """Judges operations of unknown outcome as a test says."""

    def __init__(self) -> None:
        self.clear()

    def __call__(self, lease: Lease) -> Any:
        self.asked.append(lease)
        return self.answer()

    def clear(self) -> None:
        """Know nothing, as at first."""
        self.asked: list[Lease] = []
        self.answer: Any = lambda: None


bank, reconciler = Bank(), Reconciler()


class PayoutView(Authenticated, IdempotencyMixin, APIView):
    """One call of the bank, then one row."""

    provider = "bank"

    def post(self, request: Request) -> HttpResponseBase:
        reference = self.pay(request)
        return self.write(request, reference)

    def pay(self, request: Request) -> str:
        moments.reach("before step")
        reference: str = request.idempotency.step("transfer", bank.pay, provider=self.provider, version=bank.version)
        moments.reach("after step")
        return reference

    def write(self, request: Request, reference: str) -> Response:
        payment = Payment.objects.create(amount=request.data.get("amount", 1), reference=reference)
        moments.reach("after write")
        return Response({"id": payment.pk, "reference": payment.reference}, status=201)


class LatePayoutView(PayoutView):
    """One row, then one call of the bank."""

    def post(self, request: Request) -> HttpResponseBase:
        response = self.write(request, "to be paid")
        response.data["reference"] = self.pay(request)
        return response


class SwitchingView(ScriptedView):
    """Claims as a header asks, which is no part of the request's identity."""

    def get_idempotency_policy(self) -> Policy:
        kind: Any = self.request.headers.get("X-Claim", "lease")
        return Policy(claim=kind)


def lapse(key: str) -> None:
    """Let the lease on a key have ended a second ago, by the clock of the database."""
    assert Record.objects.filter(key=key).update(lease_expires_at=Now() - timedelta(seconds=1)) == 1


def wait_for_lapse(key: str) -> None:
    """Wait until the lease on a key has ended by the clock of the database."""
    lapsed = Record.objects.filter(key=key, lease_expires_at__lte=Now())
    eventually(lapsed.exists, "the end of the lease")


def remaining(key: str) -> timedelta:
    """Return for how long the lease on a key still holds."""
    left: timedelta = Record.objects.annotate(left=F("lease_expires_at") - Now()).get(key=key).left
    return left


def be_killed(caller: Caller, path: str, *, key: str) -> None:
    """Send a request whose process dies in its view, having written a row."""

    def die(request: Request) -> Response:
        raise Killed

    with scripted(die), suppress(Killed):
        caller.post(path, {"amount": 3}, key=key)


def fail() -> None:
    raise LookupError("a defect of the view")


def break_off(caller: Caller, path: str, moment: str, *, key: str, dies: bool = False) -> None:
    """Send a request that breaks off at a moment, by an error or by the death of its process, whose lease then ends."""
    moments.once_at(moment, kill if dies else fail)
    try:
        assert caller.post(path, {"amount": 3}, key=key).status_code == 500
    except Killed:
        lapse(key)


def steps() -> list[tuple[str, bool]]:
    """Return the steps that another session sees, and whether they are done."""
    return seen_from_outside(lambda: [(step["name"], step["is_done"]) for step in Record.objects.get().steps or []])


def assert_unknown(response: Any) -> None:
    assert (response.status_code, response.json().get("code")) == (409, "outcome-unknown")
    assert Record.objects.get().status == "unknown"
