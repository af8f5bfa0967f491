"""Records by the million, made by the database from the one that is there."""

from __future__ import annotations

import psycopg
from psycopg import sql

TABLE = sql.Identifier("idempotency_record")
# What differs from record to record, by column; all else is as in the record that a real request has left.
# An outcome is kept for a day: live records were made in the last 22 hours, expired ones 25 hours before those, so that
# none expires in the course of a benchmark.
_VALUES = {
    "digest": "sha256(('digest ' || {seed} || n)::text::bytea)",
    "fingerprint": "sha256(('fingerprint ' || {seed} || n)::text::bytea)",
    "outcome_hash": "sha256(('outcome ' || {seed} || n)::text::bytea)",
    "key": "gen_random_uuid()::text",
    "scope": "'auth.user:' || n % 5000",
    "response_body": 'convert_to(\'{{"id":\' || 1000000 + n || \',"reference":"\' || '
    "repeat(md5(n::text), 3) || '\",\"amount\":' || 1000 + n % 900000 || '}}', 'UTF8')",
    "created_at": "now() - age",
    "completed_at": "now() - age",
    "expires_at": "now() - age + interval '1 day'",
}


def fill(database_url: str, count: int, *, expired: bool = False) -> None:
    """Add live or expired records, the oldest first."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        columns = _columns(connection)
        values = sql.SQL(", ").join(_value(column, seed=str(expired)) for column in columns)
        age = "interval '22 hours' * ({}::float8 - n) / {} + interval '{} hours'"
        connection.execute(
            sql.SQL("INSERT INTO {table} ({columns}) SELECT {values} FROM {source}").format(
                table=TABLE,
                columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
                values=values,
                source=sql.SQL(
                    "(SELECT * FROM {table} ORDER BY id LIMIT 1) AS r, generate_series(1, {count}) AS n, LATERAL "
                    f"(SELECT {age.format(count, count, 25 if expired else 0)}) AS a (age)"
                ).format(table=TABLE, count=sql.Literal(count)),
            )
        )
        connection.execute(sql.SQL("VACUUM ANALYZE {}").format(TABLE))


def size(database_url: str) -> int:
    """Return the bytes of the record table with its indexes."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT pg_total_relation_size('idempotency_record')").fetchone()
    return int(row[0]) if row else 0


def count(database_url: str) -> int:
    """Return the number of records."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(TABLE)).fetchone()
    return int(row[0]) if row else 0


def _columns(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_name = 'idempotency_record' AND column_name <> 'id'"
    )
    return [name for (name,) in rows]


def _value(column: str, *, seed: str) -> sql.Composable:
    if column in _VALUES:
        return sql.SQL(_VALUES[column]).format(seed=sql.Literal(seed))
    return sql.Identifier("r", column)
