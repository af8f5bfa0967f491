"""How the demo command serves: several processes with several threads each, so that duplicates really meet."""

import os
import shutil
import tempfile
from typing import Any

wsgi_app = "demo_project.wsgi:application"
worker_class = "gthread"
workers = 2
threads = 4
preload_app = True
graceful_timeout = 2
loglevel = "info"
# A socket in the user's home would be one for all that is served on this machine.
control_socket_disable = True

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_is_ours = _FOLDER not in os.environ
if _is_ours:
    # The workers count in files of this folder. It is set before anything imports prometheus_client, and starts empty.
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="django-idempotency-metrics-")


def child_exit(server: Any, worker: Any) -> None:
    """Let go of what only a living process can tell; what it has counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    """Remove the folder."""
    if _is_ours:
        shutil.rmtree(os.environ[_FOLDER], ignore_errors=True)
