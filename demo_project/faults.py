"""Trouble on demand: with DEMO_FAULTS=1 the header X-Demo-Fault makes a request fail right after it wrote its row."""

from __future__ import annotations

import os
import re
import signal
import time

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

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

    def strike(self, response: Response) -> Response:
        """Do what was asked for; return the response to send if the process lives to send one."""
        match self._name:
            case "sleep":
                time.sleep(float(self._value))
            case "raise":
                raise DemoFault("The client asked for this exception.")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "status":
                return _response(int(self._value))
        return response


def requested_fault(request: Request) -> Fault:
    """Read the header before anything is written. Raises ParseError."""
    value = request.headers.get(HEADER)
    if value is None or not settings.DEMO_FAULTS:
        return Fault()
    match = _FAULT.fullmatch(value)
    if match is None:
        raise ParseError(f"{HEADER} is none of: sleep:<seconds>, raise, kill, status:<code>.")
    return Fault(*(group for group in match.groups() if group))


def _response(status: int) -> Response:
    return Response(None if status in _WITHOUT_BODY else {"detail": f"The client asked for {status}."}, status=status)
