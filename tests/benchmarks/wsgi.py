"""The measured service as gunicorn loads it."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"

application = get_wsgi_application()

if os.environ.get("BENCHMARK_UNAUDITED") == "1":
    from django_idempotency.signals import operation_answered

    assert operation_answered.disconnect(dispatch_uid="idempotency audit")
