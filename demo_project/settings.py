"""Settings of the demo, by environment.

``DATABASE_URL``          PostgreSQL or SQLite; by default the file ``demo.sqlite3`` beside ``manage.py``.
``REDIS_URL``             Redis in front of that database, on which nothing but speed depends; by default none.
``KAFKA_BOOTSTRAP_SERVERS``  where events go and come from; without it they wait in the outbox.
``DJANGO_DEBUG``          1 for tracebacks in the browser.
``DJANGO_HTTPS``          1 behind TLS: redirects, secure cookies, HSTS; then DJANGO_SECRET_KEY must be set.
``DJANGO_SECRET_KEY``     any long random text; without it (and without DJANGO_HTTPS) a published one is used.
``DJANGO_ALLOWED_HOSTS``  host names, comma-separated; by default those of this machine alone.
``DEMO_BANK_URL``         the bank that payouts call: ``python -m demo_project.bank`` starts one and prints its address.
``DEMO_LEASE_SECONDS``    how long after a crash a payout is free to be retried; by default 10.
``DEMO_OBJECTS``          the folder of the reports that are uploaded; by default ``demo-objects`` beside ``manage.py``.
``DEMO_FAULTS``           1 obeys the header X-Demo-Fault, and passes X-Bank-Fault on to the bank.
``DEMO_KILL_CONSUMER_AT`` with DEMO_FAULTS, the number of the event that a consumer dies at; 0 for none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from demo_project.servers import EMBEDDED_KAFKA_OPTIONS

BASE_DIR = Path(__file__).resolve().parent.parent


def _is_on(name: str) -> bool:
    return os.environ.get(name, "0") == "1"


def _database() -> dict[str, Any]:
    url = os.environ.get("DATABASE_URL") or f"sqlite:///{BASE_DIR / 'demo.sqlite3'}"
    if url.startswith("sqlite:"):
        database: dict[str, Any] = dict(dj_database_url.parse(url))
        database["OPTIONS"] = {
            # A transaction that starts with a read cannot wait for the write lock: it fails with "database is locked".
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            **database.get("OPTIONS", {}),
        }
        return database
    return dict(dj_database_url.parse(url, conn_max_age=60, conn_health_checks=True))


def _secret_key() -> str:
    published = "django-insecure-known-to-everybody-who-can-read-this-file"
    key = os.environ.get("DJANGO_SECRET_KEY") or ("" if HTTPS else published)
    if not key:
        raise ImproperlyConfigured("DJANGO_HTTPS=1 asks for a DJANGO_SECRET_KEY.")
    return key


def kafka_brokers(bootstrap_servers: str) -> dict[str, dict[str, Any]]:
    """Return IDEMPOTENCY_BROKERS for a Kafka."""
    # It may be the one that comes along, and these suit any other.
    options = {"bootstrap_servers": bootstrap_servers, **EMBEDDED_KAFKA_OPTIONS}
    return {"default": {"BACKEND": "django_idempotency.contrib.kafka.KafkaBroker", "OPTIONS": options}}


DEBUG = _is_on("DJANGO_DEBUG")
HTTPS = _is_on("DJANGO_HTTPS")
DEMO_FAULTS = _is_on("DEMO_FAULTS")
DEMO_BANK_URL = os.environ.get("DEMO_BANK_URL", "")
DEMO_KILL_CONSUMER_AT = int(os.environ.get("DEMO_KILL_CONSUMER_AT", "0"))
DEMO_LEASE_SECONDS = float(os.environ.get("DEMO_LEASE_SECONDS", "10"))
SECRET_KEY = _secret_key()
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
DATABASES = {"default": _database()}
CACHES: dict[str, dict[str, Any]] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if os.environ.get("REDIS_URL"):
    CACHES["idempotency"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ["REDIS_URL"],
        "OPTIONS": {
            # A Redis that hangs costs a request no more than this, and soon is left alone.
            "SOCKET_CONNECT_TIMEOUT": 0.25,
            "SOCKET_TIMEOUT": 0.25,
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        },
    }
    IDEMPOTENCY_STORES = {
        "default": {
            "BACKEND": "django_idempotency.stores.cached.CachedDatabaseStore",
            "OPTIONS": {"cache": "idempotency"},
        }
    }

if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
    IDEMPOTENCY_BROKERS = kafka_brokers(os.environ["KAFKA_BOOTSTRAP_SERVERS"])

SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "django_idempotency",
    "django_idempotency.contrib.prometheus.PrometheusConfig",
    "demo_project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 50,
}

ROOT_URLCONF = "demo_project.urls"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "charge-new"
WSGI_APPLICATION = "demo_project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "blobs": {
        "BACKEND": "django_idempotency.objects.ContentAddressedStorage",
        "OPTIONS": {
            "storage": {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": os.environ.get("DEMO_OBJECTS") or BASE_DIR / "demo-objects"},
            }
        },
    },
}
# Static files are served from where the applications keep them, so that nothing has to be collected.
WHITENOISE_USE_FINDERS = True
# Without DEBUG, Django would mail errors to nobody instead of logging them.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
