"""The books of the bank, in an SQLite file of its own: each call is written down, each key pays once."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

_TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS call (
    id INTEGER PRIMARY KEY,
    key TEXT,
    at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    user_id TEXT NOT NULL,
    amount_cents INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS call_key ON call (key);
CREATE TABLE IF NOT EXISTS payment (
    reference TEXT PRIMARY KEY,
    key TEXT UNIQUE,
    user_id TEXT NOT NULL,
    amount_cents INTEGER NOT NULL
) STRICT;
"""
_OF_USER = "WHERE :user_id IS NULL OR user_id = :user_id"
_CALLS = f"SELECT count(*) FROM call {_OF_USER}"
_PAYMENTS = f"SELECT count(*) FROM payment {_OF_USER}"
_BY_KEY = f"""
SELECT key, count(*) AS calls,
    (SELECT count(*) FROM payment WHERE payment.key = call.key) AS payments,
    (SELECT reference FROM payment WHERE payment.key = call.key) AS reference
FROM call {_OF_USER} GROUP BY key HAVING key IS NOT NULL
"""


class AnotherTransfer(ValueError):
    """The key has paid for something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What the bank is asked for; ``key`` is None where the caller has none, and then each call pays."""

    key: str | None
    user_id: str
    amount_cents: int


class Ledger:
    """The file, opened once for all threads."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
        self._connection.row_factory = sqlite3.Row
        self._lock = Lock()
        self._connection.executescript(_TABLES)

    def note(self, transfer: Transfer) -> None:
        """Write a call down."""
        values = (transfer.key, transfer.user_id, transfer.amount_cents)
        with self._transaction() as connection:
            connection.execute("INSERT INTO call (key, user_id, amount_cents) VALUES (?, ?, ?)", values)

    def pay(self, transfer: Transfer) -> str:
        """Pay, unless the key has paid already; return the reference of the payment. Raises AnotherTransfer."""
        reference = f"bk_{secrets.token_hex(12)}"
        with self._transaction() as connection:
            paid = connection.execute("SELECT * FROM payment WHERE key = ?", [transfer.key]).fetchone()
            if paid is None:
                values = (reference, transfer.key, transfer.user_id, transfer.amount_cents)
                connection.execute("INSERT INTO payment VALUES (?, ?, ?, ?)", values)
                return reference
        if (paid["user_id"], paid["amount_cents"]) != (transfer.user_id, transfer.amount_cents):
            raise AnotherTransfer
        return str(paid["reference"])

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the payment of a key, None if there is none."""
        with self._lock:
            query = "SELECT reference, user_id, amount_cents FROM payment WHERE key = ?"
            row = self._connection.execute(query, [key]).fetchone()
        return dict(row) if row else None

    def summary(self, user_id: str | None = None) -> dict[str, Any]:
        """Return how often the bank was called and has paid, in all and by key; for one user or for everybody."""
        values = {"user_id": user_id}
        with self._transaction() as connection:
            (calls,) = connection.execute(_CALLS, values).fetchone()
            (payments,) = connection.execute(_PAYMENTS, values).fetchone()
            by_key = dict(map(_account, connection.execute(_BY_KEY, values)))
        return {"calls": calls, "payments": payments, "by_key": by_key}

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection


def _account(row: sqlite3.Row) -> tuple[str, dict[str, Any]]:
    return row["key"], {"calls": row["calls"], "payments": row["payments"], "reference": row["reference"]}
