"""The measured service as gunicorn loads it."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"

application = get_wsgi_application()
