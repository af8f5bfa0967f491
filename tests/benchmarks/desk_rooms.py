"""Rows of the other rooms, by the hundred thousand, and their pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
from psycopg import sql

_JOB, _TOPIC, _GROUP, _WINDOW = "job-7", "topic-3", "group-3", "window-3"
# What one row in how many is: the pages look for what is common and for what is rare.
_ROWS = {
    "jobrun": """
        (run_id, job, key, digest, attempt, worker, origin, status, is_forced, outcome_hash, error, started_at,
            completed_at)
        SELECT (lpad(to_hex(n), 12, '0') || '7' || left(md5(n::text), 3) || '8' || right(md5(n::text), 15))::uuid,
            'job-' || n % 20, 'invoice-' || n, sha256(('job ' || n)::bytea), 1, 'host:1', 'celery:' || n,
            CASE WHEN n % 1000 = 1 THEN 'failed' WHEN n % 50000 = 2 THEN 'unknown' ELSE 'executed' END, false,
            sha256(n::text::bytea), CASE WHEN n % 1000 = 1 THEN 'OSError: no such host' ELSE '' END,
            now() - age, now() - age + interval '1 second'""",
    "queuedjob": """
        (digest, job, key, fingerprint, fingerprint_version, fingerprint_secret, queued_at, expires_at)
        SELECT sha256(('queued ' || n)::bytea), 'job-' || n % 20, 'order-' || n, sha256(n::text::bytea), 1, 'a1b2c3d4',
            now() - age, now() - age + interval '31 days'""",
    "outboxevent": """
        (event_id, topic, business_key, payload, headers, lane, status, attempts, error, created_at, published_at)
        SELECT md5('event ' || n)::uuid, 'topic-' || n % 10, 'order-' || n % 5000,
            convert_to(repeat('x', 200), 'UTF8'), '{}', n % 16,
            CASE WHEN n % 10000 = 1 THEN 'parked' WHEN n % 1000 = 2 THEN 'pending' ELSE 'published' END, 0, '',
            now() - age, CASE WHEN n % 10000 = 1 OR n % 1000 = 2 THEN NULL ELSE now() - age END""",
    "consumedevent": """
        ("group", event_id, topic, partition, "offset", business_key, event_at, consumed_at, outcome)
        SELECT 'group-' || n % 10, md5('event ' || n)::uuid, 'topic-' || n % 10, n % 12, n, 'order-' || n % 5000,
            now() - age, now() - age, CASE WHEN n % 10000 = 1 THEN 'failed' ELSE 'executed' END""",
    "parkedevent": """
        ("group", topic, partition, "offset", epoch, event_id, business_key, record_key, payload, headers, kind, reason,
            attempts, status, parked_at, settled_at)
        SELECT 'group-' || n % 10, 'topic-' || n % 10, n % 12, n, 0, md5('event ' || n)::uuid, 'order-' || n % 5000,
            'order'::bytea, convert_to(repeat('x', 200), 'UTF8'), '[]',
            CASE WHEN n % 2 = 0 THEN 'failed' ELSE 'rejected' END, 'ValueError', 3,
            CASE WHEN n % 100 = 1 THEN 'parked' ELSE 'retried' END, now() - age,
            CASE WHEN n % 100 = 1 THEN NULL ELSE now() - age END""",
    "dedupentry": """
        (name, digest, first_seen_at, last_seen_at, expires_at, hits)
        SELECT 'window-' || n % 10, sha256(('seen ' || n)::bytea), now() - age, now() - age,
            now() + interval '1 day', 2""",
}
# Of these there are few: names of consumers, of watermarks, of versions.
_FEW = {
    "consumeroffset": """
        ("group", topic, partition, next_offset, read_offset, end_offset, incarnation, epoch, member, moved_at)
        SELECT 'group-' || n % 10, 'topic-' || n / 10, 0, 900 * n, 900 * n, 1000 * n, '', 0, '', now()""",
    "watermarkrow": """
        (name, partition, kind, position, moves, moved_at)
        SELECT 'watermark-' || n, '', 'int', n::text, n, now()""",
    "generation": """
        (projection, version, "table", state, rows_read, created_at)
        SELECT 'projection-' || n % 20, n, 'table_' || n, 'retired', n, now()""",
    "dedupinterval": """
        (name, digest, starts_at, ends_at, seen_at, expires_at)
        SELECT 'window-' || n % 10, sha256(('seen ' || n)::bytea), now(), now() + interval '1 hour', now(),
            now() + interval '1 day'""",
}
_FEW_ROWS = 2000


def fill_rooms(database_url: str, *, rows: int, say: Callable[[str], None]) -> None:
    """Fill the tables of the other rooms with the rows of a month, the oldest first."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        for table, text in (_ROWS | _FEW).items():
            count = rows if table in _ROWS else _FEW_ROWS
            name = sql.Identifier(f"idempotency_{table}")
            source = sql.SQL(
                " FROM generate_series(1, {count}::bigint) AS n,"
                " LATERAL (SELECT interval '720 hours' * (({count} - n)::float8 / {count})) AS a (age)"
            ).format(count=sql.Literal(count))
            connection.execute(sql.SQL("INSERT INTO {} ").format(name) + sql.SQL(text) + source)
            connection.execute(sql.SQL("VACUUM ANALYZE {}").format(name))
            say(f"{count} rows of {table}")


def room_pages() -> Iterator[tuple[str, str]]:
    """Yield the names and addresses of their pages: every list, what is common, what is rare, and one row of each."""
    from django.apps import apps
    from django.urls import reverse

    queries = {
        "JobRun": ("", "status__exact=executed", "status__exact=failed", f"job={_JOB}", "q=invoice-77"),
        "QueuedJob": ("", f"job={_JOB}", "q=order-77"),
        "OutboxEvent": ("", "status=published", "status=pending", "status=parked", f"topic={_TOPIC}"),
        "ConsumedEvent": ("", "outcome=executed", "outcome=failed", f"group={_GROUP}"),
        "ParkedEvent": ("", "decision=open", "decision=settled", f"group={_GROUP}"),
        "ConsumerOffset": ("", f"q={_GROUP}"),
        "WatermarkRow": ("", "q=watermark-7"),
        "Generation": ("", "state__exact=retired"),
        "DedupEntry": ("", f"name={_WINDOW}"),
        "DedupInterval": ("", f"name={_WINDOW}"),
    }
    for model_name, asked in queries.items():
        model = apps.get_model("idempotency", model_name)
        address = f"admin:idempotency_{model_name.lower()}"
        name = str(model._meta.verbose_name_plural)
        for query in asked:
            yield f"{name}: {query or 'all'}", f"{reverse(f'{address}_changelist')}?{query}"
        row = model._default_manager.order_by("pk").last()
        yield f"one of the {name}", reverse(f"{address}_change", args=[row.pk])  # type: ignore[union-attr]
