"""Routes of the tests about answers: one for each policy, one for each kind of view."""

from datetime import timedelta

from django.urls import include, path
from rest_framework.routers import SimpleRouter
from rest_framework.urlpatterns import format_suffix_patterns

from django_idempotency import Policy
from tests.conformance import views_responses as views

POLICIES = {
    "required": Policy(required=True),
    "success": Policy(keep="success"),
    "raised": Policy(keep="raised"),
    "waiting": Policy(wait=timedelta(minutes=1)),
    "patient": Policy(retry_after=17),
    "brief": Policy(ttl=timedelta(seconds=7), retry_after=60),
    "withheld": Policy(body="none"),
    "encrypted": Policy(body="encrypted"),
    "small": Policy(max_body=64),
    "extra": Policy(headers=("X-Total-Count", "X-Batch")),
    "elsewhere": Policy(store="elsewhere"),
}

router = SimpleRouter()
router.register("set", views.PaymentSet, basename="set")
router.register("model", views.ModelPayments, basename="model")
router.register("with-an-action", views.PaymentsWithAnAction, basename="with-an-action")

urlpatterns = [
    *(path(f"{name}/", views.ScriptedView.as_view(idempotency=policy), name=name) for name, policy in POLICIES.items()),
    path("not-enrolled/", views.ScriptedView.as_view(idempotency=None), name="not-enrolled"),
    path("throttled/", views.ThrottledView.as_view(), name="throttled"),
    path(
        "throttled-anew/",
        views.ThrottledView.as_view(idempotency=Policy(throttle_replays=False)),
        name="throttled-anew",
    ),
    path("nesting/", views.NestingView.as_view(), name="nesting"),
    path("stamped/", views.StampedView.as_view(), name="stamped"),
    path("generic/", views.GenericPayments.as_view(), name="generic"),
    path("function/", views.pay, name="function"),
    *format_suffix_patterns([path("negotiating/", views.NegotiatingView.as_view(), name="negotiating")]),
    path("idempotency/", include("django_idempotency.http.urls")),
    *router.urls,
]
