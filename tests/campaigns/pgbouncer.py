"""A pgbouncer in front of the test database that pools by transaction."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from tests.campaigns.harness import eventually

PORT = 6432
SETTINGS = """
[databases]
* = {server}
[pgbouncer]
unix_socket_dir = {folder}
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = {size}
logfile = {folder}/log
"""


def is_installed() -> bool:
    """Tell whether there is a pgbouncer."""
    return _executable() is not None


def _executable() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def transaction_pool(size: int) -> Iterator[dict[str, str]]:
    """Pool up to this number of server connections; yield the host and port to connect to."""
    server = connection.get_connection_params()
    with tempfile.TemporaryDirectory(prefix="django-idempotency-pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        folder.joinpath("ini").write_text(SETTINGS.format(server=_server(server), folder=folder, port=PORT, size=size))
        command = [str(_executable()), "-q", str(folder / "ini")]
        if os.geteuid() == 0:  # which it refuses to run as
            command += ["-u", _owner(server.get("host", ""))]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            eventually((folder / f".s.PGSQL.{PORT}").exists, f"pgbouncer: {command}")
            yield {"host": name, "port": str(PORT)}
        finally:
            process.kill()
            process.wait()


def _server(params: dict[str, str]) -> str:
    named = {name: params.get(name) for name in ("host", "port", "user", "password")}
    return " ".join(f"{name}='{value}'" for name, value in named.items() if value)


def _owner(host: str) -> str:
    """Return who may enter the folder of the server's socket."""
    return pwd.getpwuid(os.stat(host).st_uid).pw_name if host.startswith("/") else "nobody"
