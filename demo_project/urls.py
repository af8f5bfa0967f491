"""Addresses of the demo."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView
from rest_framework.routers import SimpleRouter

from demo_project.views import ChargeViewSet

router = SimpleRouter()
router.register("charges", ChargeViewSet)

urlpatterns = [
    path("", TemplateView.as_view(template_name="demo/index.html")),
    path("admin/", admin.site.urls),
    path("api/", include(router.urls)),
    path("idempotency/", include("django_idempotency.http.urls")),
]
