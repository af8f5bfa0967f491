"""The views of the lease campaigns as they are served."""

import os
import threading
import time

from django.conf import settings
from django.core.wsgi import get_wsgi_application

if "FAKETIME" in os.environ:
    # libfaketime mistakes the monotonic deadline that time.sleep() gives to the kernel for one of the faked clock.
    time.sleep = lambda seconds: threading.Event().wait(seconds)  # type: ignore[assignment]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django_application = get_wsgi_application()
settings.ROOT_URLCONF = "tests.campaigns.urls_leases"

from tests.campaigns.lease_failpoints import LeaseFailpoints, install  # noqa: E402 - needs the apps

install()
application = LeaseFailpoints(django_application)
