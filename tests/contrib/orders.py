"""A process that does as it is told, one JSON object a line, and forks others that may be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from django.db import connections

from tests.campaigns.harness import ROOT, database_url


class Servant:
    """The process of a module; ``order`` calls one of its functions."""

    def __init__(self, module: str, **environment: str) -> None:
        variables = {**os.environ, "DATABASE_URL": database_url({}), "PYTHONPATH": str(ROOT), **environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=ROOT, env=variables, stdin=-1, stdout=-1, text=True
        )

    def order(self, order: str, **told: Any) -> Any:
        """Return what the function has returned."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"order": order, **told}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def obey(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Do as told until nobody tells anything any more. What others print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        told = json.loads(line)
        print(json.dumps(functions[told.pop("order")](**told)), file=answers, flush=True)


def forked(call: Callable[[], Any]) -> dict[str, Any]:
    """Call in a process of its own; return its ``status``, negative for a signal, and the ``value``.

    This one must have no other threads; it keeps no connection open.
    """
    connections.close_all()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _call_and_exit(call, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(status), "value": json.loads(told) if told else None}


def _call_and_exit(call: Callable[[], Any], writing: int) -> None:
    status = 1
    try:
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(call()))
        status = 0
    except BaseException:  # noqa: BLE001 - the process must not go on as its parent would
        traceback.print_exc()
    finally:
        os._exit(status)
