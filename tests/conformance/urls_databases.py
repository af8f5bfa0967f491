"""Routes of the tests about concurrency and databases."""

from django.db import transaction
from django.urls import path
from rest_framework.routers import SimpleRouter

from tests.conformance import views_databases as views
from tests.urls import urlpatterns as common

router = SimpleRouter()
router.register("watched", views.WatchedPaymentViewSet, basename="watched")
router.register("retried", views.RetriedPaymentViewSet, basename="retried")
router.register("plain", views.PlainPaymentViewSet, basename="plain")
router.register("orphans", views.OrphanPaymentViewSet, basename="orphan")
router.register("nesting", views.NestingPaymentViewSet, basename="nesting")
router.register("transactional", views.TransactionalPaymentViewSet, basename="transactional")
router.register("non-atomic-class", views.NonAtomicPaymentViewSet, basename="non-atomic-class")

urlpatterns = [
    *common,
    *router.urls,
    path(
        "non-atomic-route/",
        transaction.non_atomic_requests(views.TransactionalPaymentViewSet.as_view({"post": "create"})),
    ),
]
