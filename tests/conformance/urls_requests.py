"""Routes to the views about requests."""

from __future__ import annotations

from typing import Any

from django.urls import include, path, re_path
from rest_framework.versioning import AcceptHeaderVersioning, NamespaceVersioning

from django_idempotency import Policy
from tests.conformance import views_requests as views

pay = views.PaymentView.as_view()


def paying(**options: Any) -> Any:
    """Return the payment view under another policy."""
    return views.PaymentView.as_view(idempotency=Policy(**options))


versioned = [path("payments/", views.PaymentView.as_view(versioning_class=NamespaceVersioning), name="payments")]

urlpatterns = [
    path("idempotency/", include("django_idempotency.http.urls")),
    # A1: keys
    path("pay/", pay, name="pay"),
    path("optional/", paying(), name="optional"),
    path("any/", paying(key_format="any"), name="any"),
    path("uuid/", paying(key_format="uuid"), name="uuid"),
    path("ulid/", paying(key_format="ulid"), name="ulid"),
    path("invoices/", paying(key_format=views.is_invoice_number), name="invoices"),
    path("every-method/", views.EveryMethodView.as_view(), name="every-method"),
    path(
        "opted-in/",
        views.EveryMethodView.as_view(idempotency=Policy(methods=("put", "delete"))),
        name="opted-in",
    ),
    path("unenrolled/", views.UnenrolledView.as_view(), name="unenrolled"),
    # A2: scopes
    path("refund/", pay, name="refund"),
    path("open/", views.OpenView.as_view(), name="open"),
    path("nobody/", views.NobodyView.as_view(), name="nobody"),
    path("empty-scope/", paying(scope=lambda request: ""), name="empty-scope"),
    path("empty-scopes/", paying(scope=lambda request: ("", "")), name="empty-scopes"),
    path("no-scope/", paying(scope=lambda request: None), name="no-scope"),
    path("tenants/", paying(scope=views.tenant_and_user), name="tenants"),
    path("names/", paying(scope=views.names_of_user), name="names"),
    path("orders/<int:order>/pay/", pay, name="pay-order"),
    re_path(r"^invoices/([0-9]+)/pay/$", pay, name="pay-invoice"),
    path("unnamed", pay),
    path("unnamed/", pay),
    path("alike", pay, name="alike"),
    path("alike/", pay, name="alike"),
    re_path(r"^merged/?$", pay, name="merged"),
    path("v1/", include((versioned, "payments"), namespace="v1")),
    path("v2/", include((versioned, "payments"), namespace="v2")),
    path("first/", include(versioned)),
    path("second/", include(versioned)),
    path("by-accept/", views.PaymentView.as_view(versioning_class=AcceptHeaderVersioning), name="by-accept"),
    path("by-header/", views.PaymentView.as_view(versioning_class=views.HeaderVersioning), name="by-header"),
    # A3: fingerprints
    path("gate/", views.GateView.as_view(), name="gate"),
    path("raw/", views.RawView.as_view(), name="raw"),
    path("upload/", views.UploadView.as_view(), name="upload"),
    path("file/", views.FileView.as_view(), name="file"),
    path("dict/", views.DictView.as_view(), name="dict"),
    path("reading/", views.ReadingView.as_view(), name="reading"),
    path("excluding/", paying(fingerprint_exclude=("sent_at", "zeitü")), name="excluding"),
    path("selecting/", paying(fingerprint_fields=("amount", "currency")), name="selecting"),
]
