"""Routes of the tests about plain views."""

from __future__ import annotations

from datetime import timedelta

from django.urls import include, path

from django_idempotency import Policy, idempotent
from tests.conformance import views_plain as views

SECOND = timedelta(seconds=1)
LEASED = Policy(claim="lease", on_crash="unknown")

bare = [path("payments/", views.bare, name="payments"), path("aside/", views.bare, name="aside")]
raised = {f"raised-{name}": idempotent(keep="raised")(views.ending(end)) for name, end in views.ENDINGS.items()} | {
    f"araised-{name}": idempotent(keep="raised")(views.aending(end)) for name, end in views.ENDINGS.items()
}
returned = {name: idempotent()(views.ending(end)) for name, end in views.ENDINGS.items()} | {
    f"a{name}": idempotent()(views.aending(end)) for name, end in views.ENDINGS.items()
}
careful = {f"careful-{name}": idempotent(LEASED)(views.ending(end)) for name, end in views.ENDINGS.items()} | {
    f"acareful-{name}": idempotent(LEASED)(views.aending(end)) for name, end in views.ENDINGS.items()
}

urlpatterns = [
    path("idempotency/", include("django_idempotency.http.urls")),
    path("decorated/", views.decorated, name="decorated"),
    path("optional/", idempotent()(views.bare), name="optional"),
    path("decorated-class/", views.DecoratedView.as_view(), name="decorated-class"),
    path("every-method/", idempotent(methods=("PUT", "DELETE"))(views.BareView.as_view()), name="every-method"),
    path("leased/", idempotent(claim="lease")(views.bare), name="leased"),
    path("async/", views.adecorated, name="async"),
    path("async-optional/", idempotent()(views.abare), name="async-optional"),
    path("async-class/", views.AsyncDecoratedView.as_view(), name="async-class"),
    path("async-lease/", idempotent(claim="transaction", lease=SECOND)(views.abare), name="async-lease"),
    path("async-scoped/", idempotent(scope=lambda request: f"as {request.user}")(views.abare), name="async-scoped"),
    path("orders/<int:order>/", views.decorated, name="order"),
    path("permitted/", views.permitted, name="permitted"),
    path("judged/", idempotent(may_replay=views.knows)(views.bare), name="judged"),
    path("async-judged/", idempotent(may_replay=views.knows)(views.abare), name="async-judged"),
    path("judged-stream/", idempotent(may_replay=views.knows)(views.ending(views.streamed)), name="judged-stream"),
    path(
        "async-judged-stream/",
        idempotent(may_replay=views.knows)(views.aending(views.streamed)),
        name="async-judged-stream",
    ),
    path("form/", idempotent(form_field="key")(views.form), name="form"),
    path("retried-form/", idempotent(form_field="key", conflict_retries=1)(views.form), name="retried-form"),
    path("body/", idempotent(form_field="key")(views.body), name="body"),
    path("greet/", idempotent(required=True)(views.greet), name="greet"),
    path("nesting/", views.nesting, name="nesting"),
    *(path(f"{name}/", view, name=name) for name, view in (raised | returned | careful).items()),
    # For the middleware
    path("bare/", views.bare, name="bare"),
    path("async-bare/", views.abare, name="async-bare"),
    path("async-bare-class/", views.AsyncBareView.as_view(), name="async-bare-class"),
    path("class/", views.BareView.as_view(), name="class"),
    path("attribute/", views.AttributeView.as_view(), name="attribute"),
    path("opted-out/", views.OptedOutView.as_view(), name="opted-out"),
    path("bare-broken/", views.ending(views.broken), name="bare-broken"),
    path("bare-long/", views.ending(views.long), name="bare-long"),
    path("bare-permitted/", views.permission_required(views.PERMISSION)(views.bare), name="bare-permitted"),
    path("ns/", include((bare, "ns"))),
    path("drf/", views.drf, name="drf"),
    path("mixed/", views.mixed, name="mixed"),
    path("through-a-mixin/", views.through_a_mixin, name="through-a-mixin"),
]
