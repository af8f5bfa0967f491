"""What a database says of itself, and what waits in the table of records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count, Q

from django_idempotency.conf import settings
from django_idempotency.stores import models
from django_idempotency.stores.diagnosis.findings import Finding, clocks, guarded
from django_idempotency.stores.figures import oldest_expired
from django_idempotency.stores.postgresql import PostgreSQL
from django_idempotency.stores.sightings import records

# Of IDEMPOTENCY_CLEANUP_INTERVAL: what is older than so many of them has been missed by more than one purge.
_INTERVALS = 3


def examine_database(alias: str) -> Iterator[Finding]:
    """Look at the database of a store, and at the records in it."""
    advice = "Check that the server runs and that this user may use the tables: manage.py dbshell"
    yield from guarded(f"database {alias}", "The database cannot be used", _examine(alias), advice=advice)


def _examine(alias: str) -> Iterator[Finding]:
    subject, connection = f"database {alias}", connections[alias]
    yield _server(subject, connection)
    if connection.vendor == "postgresql":
        yield from _postgresql(subject, connection)
    migrations = _migrations(subject, connection)
    yield migrations
    if migrations.level == "ok":
        if connection.vendor == "postgresql":
            yield _functions(subject, connection)
        yield _purge(subject, alias)
        yield from _waiting(subject, alias)


def _server(subject: str, connection: BaseDatabaseWrapper) -> Finding:
    with transaction.atomic(using=connection.alias):
        version, isolation = _VERSIONS[connection.vendor](
            connection
        )  # of the others, a check says that they are not supported
    is_atomic = bool(connection.settings_dict["ATOMIC_REQUESTS"])
    return Finding(
        subject=subject,
        text=f"{connection.display_name} {version}, isolation {isolation}, "
        f"ATOMIC_REQUESTS {'on' if is_atomic else 'off'}",
        facts={
            "vendor": connection.vendor,
            "version": version,
            "isolation": isolation,
            "atomic_requests": is_atomic,
        },
    )


def _of_postgresql(connection: BaseDatabaseWrapper) -> tuple[str, str]:
    row = _row(connection, "SELECT current_setting('server_version'), current_setting('transaction_isolation')")
    return row[0].split()[0], row[1]


def _of_sqlite(connection: BaseDatabaseWrapper) -> tuple[str, str]:
    return _row(connection, "SELECT sqlite_version()")[0], "serializable"


def _row(connection: BaseDatabaseWrapper, sql: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row: tuple[Any, ...] = cursor.fetchone()
        return row


_VERSIONS = {"postgresql": _of_postgresql, "sqlite": _of_sqlite}


def _postgresql(subject: str, connection: BaseDatabaseWrapper) -> Iterator[Finding]:
    raw: Any = connection.connection
    # A pooler answers for the server, and makes up the process id that the client is told.
    if raw.info.backend_pid != _row(connection, "SELECT pg_backend_pid()")[0]:
        yield _pooler(subject, connection)
    before = time.time()
    now = _row(connection, "SELECT extract(epoch FROM clock_timestamp())::float8")[0]
    after = time.time()
    yield clocks(subject, now - (before + after) / 2, (after - before) / 2)


def _pooler(subject: str, connection: BaseDatabaseWrapper) -> Finding:
    is_safe = bool(connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))
    return Finding(
        subject=subject,
        level="ok" if is_safe else "warning",
        text="A pooler stands between (such as pgbouncer). Records need nothing that transaction pooling lacks.",
        advice="" if is_safe else "If it pools by transaction, set DISABLE_SERVER_SIDE_CURSORS: .iterator() needs it.",
        facts={"pooler": True},
    )


def _migrations(subject: str, connection: BaseDatabaseWrapper) -> Finding:
    executor, label = MigrationExecutor(connection), models.Record._meta.app_label
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == label]
    missing = [migration.name for migration, _ in executor.migration_plan(targets)]
    if not missing:
        return Finding(subject=subject, text="All migrations are applied.")
    return Finding(
        subject=subject,
        level="error",
        text=f"Migrations are missing: {', '.join(missing)}",
        advice=f"manage.py migrate {label} --database {connection.alias}",
        facts={"missing": missing},
    )


def _functions(subject: str, connection: BaseDatabaseWrapper) -> Finding:
    wanted = [function.name for function in PostgreSQL(connection).functions]
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM unnest(%s::text[]) AS name WHERE to_regproc(name) IS NULL", [wanted])
        missing = [name for (name,) in cursor.fetchall()]
    if not missing:
        return Finding(subject=subject, text="The functions of the store are there.")
    return Finding(
        subject=subject,
        level="warning",
        text=f"Functions of the store are missing: {', '.join(missing)}. Statements in their place are slower.",
        advice=f"Create what this prints: manage.py sqlmigrate {models.Record._meta.app_label} 0005 "
        f"--database {connection.alias}",
        facts={"missing_functions": missing},
    )


def _purge(subject: str, alias: str) -> Finding:
    age = oldest_expired(alias)
    if age is None:
        return Finding(subject=subject, text="No expired record is left.", facts={"oldest_expired_hours": 0})
    is_late = age > _INTERVALS * settings.cleanup_interval
    hours = round(age.total_seconds() / 3600, 1)
    return Finding(
        subject=subject,
        level="warning" if is_late else "ok",
        text=f"The oldest expired record expired {hours} hours ago"
        + (": idempotency_purge has not run since, or was cut short." if is_late else "."),
        advice="Run manage.py idempotency_purge from cron, as often as IDEMPOTENCY_CLEANUP_INTERVAL says. "
        "Nothing is wrong but the space."
        if is_late
        else "",
        facts={"oldest_expired_hours": hours},
    )


def _waiting(subject: str, alias: str) -> Iterator[Finding]:
    stuck = Q(status="unknown") | Q(status="in_progress", has_lapsed=True)
    counted = records(alias).filter(stuck).order_by().values_list("status").annotate(count=Count("id"))
    counts = {"unknown": 0, "in_progress": 0, **dict(counted)}
    facts = {"unknown": counts["unknown"], "lapsed": counts["in_progress"]}
    waits = any(facts.values())
    yield Finding(
        subject=subject,
        level="warning" if waits else "ok",
        text=f"{facts['unknown']} unknown outcomes, {facts['lapsed']} lapsed leases",
        advice="manage.py idempotency_release --list shows them; docs/operations.md tells what to do." if waits else "",
        facts=facts,
    )
