"""The Celery application of the demo: its broker is ``CELERY_BROKER_URL``, its queue ``DEMO_QUEUE``."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")

_BROKER = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")

app = Celery("demo_project", broker=_BROKER, backend=_BROKER)
app.conf.task_default_queue = os.environ.get("DEMO_QUEUE", "demo")
app.conf.result_expires = 600
app.autodiscover_tasks(["demo_project"])
