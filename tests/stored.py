"""Everything that is stored, as bytes: what raw SQL finds in every column of every table of ours, and in Redis."""

from __future__ import annotations

from typing import Any

import redis
from django.apps import apps
from django.db import connection


def columns() -> bytes:
    """Return all values of all columns of the app's tables."""
    found: list[bytes] = []
    with connection.cursor() as cursor:
        for model in apps.get_app_config("idempotency").get_models():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(model._meta.db_table)}")
            found += [_as_bytes(value) for row in cursor.fetchall() for value in row]
    return b"\n".join(found)


def in_redis(client: redis.Redis) -> bytes:
    """Return all keys and values, of strings and of hashes."""
    found: list[bytes] = []
    for name in client.keys("*"):
        kind = client.type(name)
        value: Any = client.hgetall(name) if kind == b"hash" else {b"": client.get(name)}
        found += [name, *value.keys(), *value.values()]
    return b"\n".join(found)


def _as_bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
