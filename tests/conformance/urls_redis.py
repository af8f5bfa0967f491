"""Routes of the tests about Redis: both kinds of claim."""

from datetime import timedelta

from django.urls import path

from django_idempotency import Policy
from tests.conformance.urls_databases import urlpatterns as of_databases
from tests.conformance.urls_responses import urlpatterns as of_responses
from tests.conformance.views_responses import ScriptedView

POLICIES = {
    "leased": Policy(claim="lease", required=True),
    "unknown": Policy(claim="lease", on_crash="unknown"),
    "brief-lease": Policy(claim="lease", ttl=timedelta(seconds=7)),
}

urlpatterns = [
    *of_responses,
    *of_databases,
    *(path(f"{name}/", ScriptedView.as_view(idempotency=policy), name=name) for name, policy in POLICIES.items()),
]
