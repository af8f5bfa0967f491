"""One purge of the database and the stores of a campaign, in a process that may be killed."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import tests.campaigns.redis_wsgi  # noqa: F401 - its stores
from django_idempotency import purging

purging.purge()
