"""Routes of the measured service: the same view three times."""

from django.db import transaction
from django.urls import path

from tests.benchmarks import views

urlpatterns = [
    path("bare/", views.PaymentView.as_view(), name="bare"),
    # What ATOMIC_REQUESTS makes of a view: BaseHandler.make_view_atomic().
    path("atomic/", transaction.atomic(using="default")(views.PaymentView.as_view()), name="atomic"),
    path("protected/", views.ProtectedPaymentView.as_view(), name="protected"),
]
