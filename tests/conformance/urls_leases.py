"""Routes of the tests about leases: one for each policy."""

from datetime import timedelta

from django.urls import path

from django_idempotency import Policy
from tests.conformance import urls_responses
from tests.conformance import views_leases as views
from tests.conformance.views_responses import ScriptedView

SECOND = timedelta(seconds=1)
POLICIES = {
    "leased": Policy(claim="lease", required=True),
    "unknown": Policy(claim="lease", on_crash="unknown"),
    "leased-raised": Policy(claim="lease", keep="raised"),
    "mortal": Policy(claim="lease", lease=SECOND, heartbeat=timedelta(0)),
    "leased-brief": Policy(claim="lease", ttl=SECOND),
}
PAYOUTS = {
    "payouts": Policy(claim="lease", retry_after=17),
    "unknown-payouts": Policy(claim="lease", on_crash="unknown"),
    "waiting-payouts": Policy(claim="lease", wait=60 * SECOND),
    "short-payouts": Policy(claim="lease", lease=SECOND),
    "mortal-payouts": Policy(claim="lease", lease=SECOND, heartbeat=timedelta(0)),
    "limited-payouts": Policy(claim="lease", lease=SECOND, heartbeat=SECOND / 2, heartbeat_limit=SECOND),
}
RECONCILED = Policy(claim="lease", reconcile=views.reconciler)

urlpatterns = [
    *urls_responses.urlpatterns,
    *(path(f"{name}/", ScriptedView.as_view(idempotency=policy), name=name) for name, policy in POLICIES.items()),
    *(path(f"{name}/", views.PayoutView.as_view(idempotency=policy), name=name) for name, policy in PAYOUTS.items()),
    path("keyless/", views.PayoutView.as_view(idempotency=PAYOUTS["payouts"], provider=""), name="keyless"),
    path("reconciled/", views.PayoutView.as_view(idempotency=RECONCILED, provider=""), name="reconciled"),
    path("late/", views.LatePayoutView.as_view(idempotency=PAYOUTS["payouts"]), name="late"),
    path("switching/", views.SwitchingView.as_view(), name="switching"),
]
