"""``python -m tests.contrib.prefect_worker``: runs flows, each in a process of its own, forked from this one."""

from __future__ import annotations

import os
from typing import Any

import django

from tests.contrib.orders import forked, obey


def run(flow: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the exit status, negative where a signal has killed it, and the value."""
    from tests.contrib import prefect_jobs

    return forked(lambda: getattr(prefect_jobs, flow)(*args, **kwargs))


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()

    obey({"run": run})
