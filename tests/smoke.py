"""Run by CI in an environment with the wheel alone: the required dependencies are all that the package needs."""

import importlib.util
import tempfile
import uuid
from pathlib import Path

import django
from django.conf import settings

for optional in ("psycopg", "redis", "gunicorn", "pytest"):
    assert importlib.util.find_spec(optional) is None, f"{optional} is installed; this proves nothing"

database = Path(tempfile.mkdtemp()) / "smoke.sqlite3"
settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": database,
            "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "django_idempotency"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from django_idempotency import Policy  # noqa: E402
from django_idempotency.rest_framework import IdempotencyMixin  # noqa: E402


class GroupView(IdempotencyMixin, APIView):
    """Makes a row."""

    idempotency = Policy(required=True)

    def post(self, request):
        group = Group.objects.create(name=request.data["name"])
        return Response({"id": group.pk}, status=201)


urlpatterns = [path("groups/", GroupView.as_view())]

call_command("migrate", verbosity=0)
call_command("check")
client = APIClient()
client.force_authenticate(User.objects.create_user("alice"))
key = str(uuid.uuid4())
responses = [client.post("/groups/", {"name": "a"}, format="json", headers={"Idempotency-Key": key}) for _ in range(2)]
assert [response.status_code for response in responses] == [201, 201], responses
assert responses[0].content == responses[1].content
assert responses[1]["Idempotent-Replayed"] == "true"
assert Group.objects.count() == 1
call_command("idempotency_purge")
print(f"Django {django.__version__}: one group, one replay, nothing optional installed")
