"""Addresses of the demo."""

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path
from django.views.generic import TemplateView
from rest_framework.routers import SimpleRouter

from demo_project.feeds import BankFeedView
from demo_project.pages import ChargeFormView, ChargeView
from demo_project.payouts import PayoutViewSet
from demo_project.plain import acreate_charge, create_charge
from demo_project.receipts import ReceiptViewSet
from demo_project.views import ChargeViewSet
from django_idempotency.contrib.prometheus import metrics

router = SimpleRouter()
router.register("charges", ChargeViewSet)
router.register("payouts", PayoutViewSet)
router.register("receipts", ReceiptViewSet)

urlpatterns = [
    path("", TemplateView.as_view(template_name="demo/index.html")),
    path("admin/", admin.site.urls),
    path("api/", include(router.urls)),
    path("api/plain/charges/", create_charge, name="plain-charge"),
    path("api/async/charges/", acreate_charge, name="async-charge"),
    path("api/bank-feed/", BankFeedView.as_view(), name="bank-feed"),
    path("charges/new/", ChargeFormView.as_view(), name="charge-new"),
    path("charges/<str:pk>/", ChargeView.as_view(), name="charge-page"),
    path("metrics", metrics, name="metrics"),
    path("login/", LoginView.as_view(template_name="demo/login.html"), name="login"),
    path("idempotency/", include("django_idempotency.http.urls")),
]
