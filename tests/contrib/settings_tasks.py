"""Settings of a project whose tasks wait in a database of their own."""

import os
from typing import Any

import django

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, *([] if django.VERSION >= (6, 0) else ["django_tasks"]), "django_tasks_db"]
DATABASES = {**DATABASES, "tasks": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TASKS_DATABASE"]}}
DATABASE_ROUTERS = ["tests.contrib.settings_tasks.TasksRouter"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}


class TasksRouter:
    """Sends the tables of the tasks to their own database, and nothing else."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "tasks" if model._meta.app_label == "django_tasks_database" else None

    db_for_read = db_for_write

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (db == "tasks") == (app_label == "django_tasks_database")
