"""Trouble on demand: with DEMO_FAULTS=1 the header X-Demo-Fault makes a request fail right after it wrote its row."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import time
from typing import TypeVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

R = TypeVar("R", bound=HttpResponse)

HEADER = "X-Demo-Fault"
_FAULT = re.compile(r"(sleep):(\d{1,3}(?:\.\d{1,6})?)|(status):([2-5]\d\d)|(raise)|(kill)", re.ASCII)
_WITHOUT_BODY = frozenset({204, 205, 304})


class DemoFault(RuntimeError):
    """The failure that the client asked for."""


class Fault:
    """One fault: ``sleep:<seconds>``, ``status:<code>``, ``raise`` or ``kill``; an empty name stands for none."""

    def __init__(self, name: str = "", value: str = "") -> None:
        self._name = name
        self._value = value

    def strike(self, response: R) -> R:
        """Do what was asked for; return the response to send if the process lives to send one."""
        time.sleep(self._seconds)
        return self._strike(response)

    async def astrike(self, response: R) -> R:
        """Do as ``strike`` does, and let others run meanwhile."""
        await asyncio.sleep(self._seconds)
        return self._strike(response)

    @property
    def _seconds(self) -> float:
        return float(self._value) if self._name == "sleep" else 0.0

    def _strike(self, response: R) -> R:
        match self._name:
            case "raise":
                raise DemoFault("The client asked for this exception.")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "status":
                return _with_status(response, int(self._value))
        return response


def requested_fault(request: Request | HttpRequest) -> Fault:
    """Read the header before anything is written. Raises ParseError."""
    value = request.headers.get(HEADER)
    if value is None or not settings.DEMO_FAULTS:
        return Fault()
    match = _FAULT.fullmatch(value)
    if match is None:
        raise ParseError(f"{HEADER} is none of: sleep:<seconds>, raise, kill, status:<code>.")
    return Fault(*(group for group in match.groups() if group))


_handled = itertools.count(1)


def strike_consumer() -> None:
    """Die without a word at the event of this process that DEMO_KILL_CONSUMER_AT names, in the middle of its batch."""
    if settings.DEMO_FAULTS and next(_handled) == settings.DEMO_KILL_CONSUMER_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def _with_status(response: R, status: int) -> R:
    facts = None if status in _WITHOUT_BODY else {"detail": f"The client asked for {status}."}
    if isinstance(response, Response):
        response.data = facts
    else:
        response.content = json.dumps(facts).encode() if facts else b""
    response.status_code = status
    del response["Location"]
    return response
