"""Records, audit events and hourly sums by the million, made by the database itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

CHUNK = 1_000_000
KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
SCOPE = "auth.user:17"
OPERATION = "POST operation-7"
# Records of a week, the oldest first, most of them completed; {count} is their number, n counts from 1.
_RECORDS = """
INSERT INTO idempotency_record (
    digest, scope, operation, key, fingerprint, fingerprint_version, fingerprint_secret, status, attempt,
    lease_expires_at, response_status, response_headers, response_body, outcome_hash,
    created_at, completed_at, expires_at, duration, request_id, about
)
SELECT
    sha256(('digest ' || n)::bytea), 'auth.user:' || n % 5000, 'POST operation-' || n % 20,
    CASE WHEN n = {count} THEN {key} ELSE md5('key ' || n)::uuid::text END,
    sha256(('fingerprint ' || n)::bytea), 1, 'a1b2c3d4',
    CASE WHEN n % 20000 = 1 THEN 'unknown' WHEN n % 20000 = 2 THEN 'in_progress' ELSE 'completed' END, 1,
    CASE WHEN n % 20000 = 2 THEN now() - interval '1 minute' END,
    CASE WHEN n % 20000 IN (1, 2) THEN NULL WHEN n % 25 = 0 THEN 409 ELSE 201 END,
    '[["Content-Type", "application/json"]]'::jsonb,
    convert_to('{{"id":' || n || ',"reference":"' || repeat(md5(n::text), 8) || '"}}', 'UTF8'),
    CASE WHEN n % 20000 IN (1, 2) THEN NULL ELSE sha256(('outcome ' || n)::bytea) END,
    now() - age, CASE WHEN n % 20000 IN (1, 2) THEN NULL ELSE now() - age END,
    now() - age + interval '167 hours', 0.002 + (n % 977) / 10000.0, 'request-' || n, 'auth.user:' || n % 5000
FROM generate_series({first}::bigint, {last}::bigint) AS n,
    LATERAL (SELECT interval '168 hours' * (({count} - n)::float8 / {count})) AS a (age)
"""
# Events of a month, three in four about records that are there.
_EVENTS = """
INSERT INTO idempotency_auditevent (
    event, layer, operation, scope, digest, fingerprint, outcome_hash, attempt, status, duration, count, actor,
    reason, at
)
SELECT
    CASE WHEN n % 20 < 14 THEN 'replayed' WHEN n % 20 < 17 THEN 'in_progress' WHEN n % 20 < 18 THEN 'mismatch'
        ELSE 'executed' END,
    'http', 'POST operation-' || n % 20, 'auth.user:' || n % 5000, sha256(('digest ' || 1 + n % {records})::bytea),
    sha256(('fingerprint ' || n)::bytea), '', 1, 201, NULL, 1, '', '',
    now() - interval '720 hours' * (({count} - n)::float8 / {count})
FROM generate_series({first}::bigint, {last}::bigint) AS n
"""
# Until the hour that has just ended, as idempotency_purge would.
_SUMS = """
INSERT INTO idempotency_rollup (hour, layer, operation, outcome, count, duration_sum, durations)
SELECT hour, 'http', operation, outcome, count(*), sum(duration), '[]'::jsonb FROM (
    SELECT date_trunc('hour', completed_at) AS hour, operation, 'executed' AS outcome, duration
        FROM idempotency_record WHERE completed_at < date_trunc('hour', now())
    UNION ALL
    SELECT date_trunc('hour', at), operation, event, 0 FROM idempotency_auditevent WHERE at < date_trunc('hour', now())
) AS facts GROUP BY hour, operation, outcome
"""
_CLASSES = """
UPDATE idempotency_rollup SET durations = to_jsonb(array_fill(count / 16, ARRAY[16]))
WHERE outcome = 'executed'
"""


def fill(database_url: str, *, records: int, events: int, say: Callable[[str], None]) -> None:
    """Fill an empty database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("DELETE FROM idempotency_record")
        facts = {"count": records, "records": records, "key": KEY}
        with _without_indexes(connection, "idempotency_record", say):
            _insert(connection, _RECORDS, records, facts, say)
        with _without_indexes(connection, "idempotency_auditevent", say):
            _insert(connection, _EVENTS, events, {**facts, "count": events}, say)
        say("summing up")
        connection.execute(_SUMS)
        connection.execute(_CLASSES)
        say("VACUUM ANALYZE")
        for table in ("record", "auditevent", "rollup"):
            connection.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(f"idempotency_{table}")))


def _insert(
    connection: psycopg.Connection, text: str, count: int, facts: dict[str, object], say: Callable[[str], None]
) -> None:
    for first in range(1, count + 1, CHUNK):
        last = min(first + CHUNK - 1, count)
        values = {name: sql.Literal(value) for name, value in {**facts, "first": first, "last": last}.items()}
        connection.execute(sql.SQL(text).format(**values))  # type: ignore[arg-type]
        say(f"{last} of {count} rows")


@contextmanager
def _without_indexes(connection: psycopg.Connection, table: str, say: Callable[[str], None]) -> Iterator[None]:
    """Drop the indexes that are no constraints, and make them again in the end: faster than to grow them."""
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s AND indexname NOT IN "
        "(SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s))",
        [table, table],
    ).fetchall()
    for name, _definition in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    yield
    say(f"indexes of {table}")
    for _name, definition in indexes:
        connection.execute(definition)


def sizes(database_url: str) -> dict[str, int]:
    """Return the bytes of the tables with their indexes."""
    with psycopg.connect(database_url) as connection:
        tables = ("record", "auditevent", "rollup")
        query = "SELECT pg_total_relation_size(to_regclass(%s))"
        found = {table: connection.execute(query, [f"idempotency_{table}"]).fetchone() for table in tables}
    return {table: int(row[0]) for table, row in found.items() if row}
