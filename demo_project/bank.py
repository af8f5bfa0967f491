"""A small bank outside the service, with books of its own: ``python -m demo_project.bank --port 0 --ledger FILE``.

The first line it prints is its address.

``POST /transfers``       {"amount_cents", "user_id"} → 201 {"reference", "amount_cents"}. With an ``Idempotency-Key``
                          it pays once a key, without one each time; 422 if the key has paid for something else.
``GET /transfers/<key>``  the payment of a key, or 404.
``GET /ledger``           how often it was called and has paid, in all and by key; ``?user_id=`` narrows it to one user.

The header ``X-Bank-Fault`` makes a transfer fail: ``sleep:<seconds>`` pays and answers late, ``status:<code>`` fails
without paying, ``lost`` pays, then closes the connection without an answer.
"""

from __future__ import annotations

import json
import re
import sys
import time
from argparse import ArgumentParser
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from demo_project.ledgers import AnotherTransfer, Ledger, Transfer

HOST = "127.0.0.1"
FAULT_HEADER = "X-Bank-Fault"
_FAULT = re.compile(r"(sleep):(\d{1,3}(?:\.\d{1,6})?)|(status):([2-5]\d\d)|(lost)", re.ASCII)
_TRANSFERS = "/transfers"
_LARGEST_BODY = 64 * 1024
_LARGEST_AMOUNT = 2**63 - 1


class BadRequest(ValueError):
    """The request makes no sense to the bank."""


class Bank(ThreadingHTTPServer):
    """Serves one ledger."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, ledger: Ledger) -> None:
        super().__init__((HOST, port), _Connection)
        self.ledger = ledger

    @property
    def url(self) -> str:
        """The address."""
        return f"http://{HOST}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up: here they are meant to."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    """Serves one connection."""

    server: Bank
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Transfer."""
        body = self._read_body()  # whatever is asked for, or its rest would be taken for the next request
        if self.path != _TRANSFERS:
            return self._answer(404)
        try:
            transfer, fault = self._transfer(body), self._fault()
        except BadRequest as error:
            return self._answer(400, {"detail": str(error)})
        return self._carry_out(transfer, *fault)

    def do_GET(self) -> None:
        """Look something up."""
        address = urlsplit(self.path)
        folder, _, key = address.path.rpartition("/")
        if address.path == "/ledger":
            (user_id,) = parse_qs(address.query).get("user_id", [None])[-1:]
            return self._answer(200, self.server.ledger.summary(user_id))
        payment = self.server.ledger.find(unquote(key)) if folder == _TRANSFERS else None
        return self._answer(200, payment) if payment else self._answer(404)

    def _carry_out(self, transfer: Transfer, fault: str = "", value: str = "") -> None:
        self.server.ledger.note(transfer)
        if fault == "status":
            return self._answer(int(value))
        try:
            reference = self.server.ledger.pay(transfer)
        except AnotherTransfer:
            return self._answer(422, {"detail": AnotherTransfer.__doc__})
        if fault == "lost":
            self.close_connection = True
            return None
        if fault == "sleep":
            time.sleep(float(value))
        return self._answer(201, {"reference": reference, "amount_cents": transfer.amount_cents})

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not (length.isdecimal() and int(length) <= _LARGEST_BODY):
            self.close_connection = True
            return b""
        return self.rfile.read(int(length))

    def _transfer(self, body: bytes) -> Transfer:
        try:
            asked = json.loads(body)
            user_id, amount_cents = asked.get("user_id", ""), asked["amount_cents"]
        except (ValueError, LookupError, AttributeError):
            raise BadRequest("The body is not a JSON object with amount_cents.") from None
        if not isinstance(user_id, str) or type(amount_cents) is not int or not 0 < amount_cents <= _LARGEST_AMOUNT:
            raise BadRequest("user_id is a text and amount_cents a positive integer.")
        return Transfer(key=self.headers.get("Idempotency-Key"), user_id=user_id, amount_cents=amount_cents)

    def _fault(self) -> list[str]:
        value = self.headers.get(FAULT_HEADER)
        match = _FAULT.fullmatch(value) if value else None
        if value and match is None:
            raise BadRequest(f"{FAULT_HEADER} is none of: sleep:<seconds>, status:<code>, lost.")
        return [group for group in match.groups() if group] if match else []

    def _answer(self, status: int, facts: object = None) -> None:
        body = b"" if status in (204, 304) else json.dumps(facts or {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: the ledger says it all."""


def main() -> None:
    """Serve until the process is ended."""
    parser = ArgumentParser(description="A small bank that pays once a key.")
    parser.add_argument("--port", type=int, default=0, help="Port to listen at (default: any that is free).")
    parser.add_argument("--ledger", type=Path, required=True, help="SQLite file, made if it is missing.")
    options = parser.parse_args()
    with Bank(options.port, Ledger(options.ledger)) as bank, suppress(KeyboardInterrupt):
        sys.stdout.write(f"{bank.url}\n")
        sys.stdout.flush()
        bank.serve_forever()


if __name__ == "__main__":
    main()
