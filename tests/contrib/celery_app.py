"""A Celery application as a project has it, for the worker of a test."""

import json
import os

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

app = Celery("tests", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
app.conf.imports = ["django_idempotency.contrib.celery", *os.environ.get("CELERY_JOBS", "").split()]
app.conf.broker_transport_options = json.loads(os.environ.get("BROKER_OPTIONS", "{}"))
app.conf.worker_hijack_root_logger = False
