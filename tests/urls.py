"""Routes of the tests."""

from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from tests import views

router = SimpleRouter()
router.register("payments", views.PaymentViewSet)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("idempotency/", include("django_idempotency.http.urls")),
    *router.urls,
]
