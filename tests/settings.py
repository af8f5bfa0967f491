"""Settings of the tests: PostgreSQL, or what DATABASE_URL names (``sqlite`` stands for a file of its own)."""

import os
from pathlib import Path

import dj_database_url

from demo_project.servers import EMBEDDED_KAFKA_OPTIONS, postgresql_url
from tests.folders import new_folder

if os.environ.get("DATABASE_URL") == "sqlite":
    # Threads and processes of the tests open it too, so it is a file; processes inherit its name.
    os.environ["DATABASE_URL"] = f"sqlite:///{Path(new_folder('sqlite'), 'tests.sqlite3')}"
DATABASE_URL = os.environ.setdefault("DATABASE_URL", postgresql_url())
if "TEST_OBJECTS" not in os.environ:
    os.environ["TEST_OBJECTS"] = new_folder("objects")

DATABASES = {"default": dj_database_url.parse(DATABASE_URL)}
if os.environ.get("TEST_KEEPS_SESSIONS") == "1":
    DATABASES["default"]["CONN_MAX_AGE"] = None
if DATABASE_URL.startswith("sqlite:"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    DATABASES["default"]["TEST"] = {"NAME": DATABASE_URL.removeprefix("sqlite:///") + ".test"}

SECRET_KEY = "a secret of the tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
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
    "tests",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "blobs": {
        "BACKEND": "django_idempotency.objects.ContentAddressedStorage",
        "OPTIONS": {
            "storage": {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": os.environ["TEST_OBJECTS"]},
            }
        },
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
IDEMPOTENCY_BROKERS = {"default": {"BACKEND": "django_idempotency.testing.brokers.MemoryBroker"}}
if "KAFKA_BOOTSTRAP_SERVERS" in os.environ:
    IDEMPOTENCY_BROKERS = {
        "default": {
            "BACKEND": "django_idempotency.contrib.kafka.KafkaBroker",
            "OPTIONS": {"bootstrap_servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], **EMBEDDED_KAFKA_OPTIONS},
        }
    }
