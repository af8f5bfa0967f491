"""How gunicorn serves the test app: loaded once and forked, so that a killed worker is replaced quickly."""

import os

wsgi_app = "tests.campaigns.wsgi:application"
worker_class = os.environ.get("CAMPAIGN_WORKERS", "gthread")
preload_app = True
timeout = 60
graceful_timeout = 5
loglevel = "critical"
control_socket_disable = True  # one path for all servers of a user; versions without it ignore the name
