"""A process that counts: ``counting.py <database file> [count | show | value | kill] …``, one after the other."""

import os
import signal
import sys

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django_idempotency",
        "django_idempotency.contrib.prometheus.PrometheusConfig",
    ],
    SECRET_KEY="not a secret",
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from prometheus_client import REGISTRY  # noqa: E402

from django_idempotency.contrib.prometheus import metrics  # noqa: E402
from django_idempotency.signals import operation_answered  # noqa: E402
from tests.contrib.facts import COMMON, answered  # noqa: E402

HITS = "idempotency_hits"
assert HITS not in {metric.name for metric in REGISTRY.collect()}, "not made lazily"


def count() -> None:
    for _ in range(25):
        operation_answered.send(**answered("replayed"))


def show() -> None:
    call_command("migrate", verbosity=0)
    print(metrics(RequestFactory().get("/metrics")).content.decode())


def value() -> None:
    print(REGISTRY.get_sample_value(f"{HITS}_total", {"operation": COMMON["operation"]}))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


for verb in sys.argv[2:]:
    {"count": count, "show": show, "value": value, "kill": kill}[verb]()
