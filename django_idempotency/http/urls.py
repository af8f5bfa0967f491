"""``path("idempotency/", include("django_idempotency.http.urls"))`` makes every problem type an address that explains it."""

from django.urls import path

from django_idempotency.http.views import problem

app_name = "idempotency"
urlpatterns = [path("problems/<slug:code>/", problem, name="problem")]
