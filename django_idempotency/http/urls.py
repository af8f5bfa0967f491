"""Include these and every problem type is an address that explains it.

``path("idempotency/", include("django_idempotency.http.urls"))``
"""

from django.urls import path

from django_idempotency.http.views import problem

app_name = "idempotency"
urlpatterns = [path("problems/<slug:code>/", problem, name="problem")]
