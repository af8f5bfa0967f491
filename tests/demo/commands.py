"""The demo has settings of its own, so its commands and its server run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.folders import new_folder

MANAGE = Path(__file__).resolve().parents[2] / "manage.py"


def environment(database_url: str | None, **variables: str) -> dict[str, str]:
    """Return what a process of the demo is started with."""
    dropped = ("DATABASE_URL", "DEMO_FAULTS", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL")
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    inherited["DEMO_OBJECTS"] = _objects()
    chosen = {} if database_url is None else {"DATABASE_URL": database_url}
    return {**inherited, "DJANGO_SETTINGS_MODULE": "demo_project.settings", **chosen, **variables}


@cache
def _objects() -> str:
    return new_folder("demo-objects")


def manage(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, str(MANAGE), *arguments], env=env, capture_output=True, text=True, timeout=120, check=False
    )
