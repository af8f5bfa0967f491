"""The client of the scenarios: it makes a key for each thing it wants done, and repeats the key on every retry."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from demo_project.bank import FAULT_HEADER as BANK_FAULT_HEADER
from demo_project.faults import HEADER as FAULT_HEADER
from demo_project.results import Exchange

TOKEN = "alice-demo-token"
PATH = "/api/charges/"
PAYOUTS = "/api/payouts/"
RECEIPTS = "/api/receipts/"
ASYNC = "/api/async/charges/"
FEED = "/api/bank-feed/"
_LONGEST_PAUSE = 0.5
_PATIENCE = 30.0


def new_key() -> str:
    """Return a key that nobody has used."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Payment:
    """A request as the client remembers it for its retries."""

    user_id: str
    amount_cents: int
    key: str = field(default_factory=new_key)
    path: str = PATH

    @property
    def body(self) -> bytes:
        """The JSON to send."""
        return json.dumps({"user_id": self.user_id, "amount_cents": self.amount_cents}).encode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers to send."""
        return {
            "Authorization": f"Token {TOKEN}",
            "Content-Type": "application/json",
            "Idempotency-Key": f'"{self.key}"',
        }


class Client:
    """Sends payments over HTTP, each on a connection of its own, and writes down every exchange."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self._address = urlsplit(url)
        self._url = url
        self._http = http
        self.exchanges: list[Exchange] = []

    def send(self, payment: Payment, *, fault: str = "", bank_fault: str = "", timeout: float = 20) -> Exchange:
        """Send once."""
        faults = {FAULT_HEADER: fault, BANK_FAULT_HEADER: bank_fault}
        headers = {**payment.headers, **{name: value for name, value in faults.items() if value}}
        try:
            response = self._http.post(self._url + payment.path, content=payment.body, headers=headers, timeout=timeout)
        except httpx.TransportError:
            return self._note(Exchange(key=payment.key))
        retry_after = response.headers.get("Retry-After")
        return self._note(
            Exchange(
                key=payment.key,
                status=response.status_code,
                is_replay=response.headers.get("Idempotent-Replayed") == "true",
                body=response.content,
                retry_after=None if retry_after is None else float(retry_after),
            )
        )

    def insist(
        self, payment: Payment, *, first_fault: str = "", first_bank_fault: str = "", timeout: float = 20
    ) -> Exchange:
        """Send, and send again as long as there is no answer that stays; only the first attempt meets the faults."""
        deadline = time.monotonic() + _PATIENCE
        exchange = self.send(payment, fault=first_fault, bank_fault=first_bank_fault, timeout=timeout)
        while exchange.may_be_retried and time.monotonic() < deadline:
            time.sleep(min(exchange.retry_after or 0.05, _LONGEST_PAUSE))
            exchange = self.send(payment, timeout=timeout)
        return exchange

    def send_and_hang_up(self, payment: Payment, *, fault: str = "") -> None:
        """Send the whole request, then close the connection without reading: the reply is lost."""
        headers = {**payment.headers, **({FAULT_HEADER: fault} if fault else {})}
        lines = [f"POST {payment.path} HTTP/1.1", f"Host: {self._address.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, f"Content-Length: {len(payment.body)}", "", ""])
        with socket.create_connection((self._address.hostname or "", self._address.port or 80), timeout=10) as line:
            line.sendall(head.encode() + payment.body)
        self._note(Exchange(key=payment.key))

    def deliver(self, statement: list[dict[str, Any]]) -> dict[str, Any]:
        """Send a bank's statement, without a key; return how many of its lines were booked, and how many were not."""
        headers = {"Authorization": f"Token {TOKEN}"}
        response = self._http.post(self._url + FEED, json=statement, headers=headers, timeout=20)
        answer: dict[str, Any] = response.raise_for_status().json()
        # It is no replay, as there is no key; but where nothing was booked, all of it was known.
        is_replay = not answer["booked"]
        self._note(Exchange(key=new_key(), status=response.status_code, is_replay=is_replay, body=response.content))
        return answer

    def _note(self, exchange: Exchange) -> Exchange:
        self.exchanges.append(exchange)
        return exchange


@contextmanager
def http_client() -> Iterator[httpx.Client]:
    """Yield an HTTP client that keeps no connection, so that any worker may get the next request."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    # A proxy of the environment has no business between us and our own machine; plain HTTP has no certificates.
    with httpx.Client(limits=limits, trust_env=False, verify=False) as client:
        yield client
