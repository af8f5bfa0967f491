"""Settings of a project whose tasks wait in the database of DATABASE_URL, or at Celery's broker."""

import django

from tests.benchmarks.settings import *  # noqa: F403
from tests.benchmarks.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, *([] if django.VERSION >= (6, 0) else ["django_tasks"]), "django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
