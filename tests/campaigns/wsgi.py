"""The test app as the campaigns serve it."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django_application = get_wsgi_application()

from tests.campaigns.failpoints import Failpoints, install  # noqa: E402 - needs the apps

install()
application = Failpoints(django_application)
