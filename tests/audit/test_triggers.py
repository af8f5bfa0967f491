"""On PostgreSQL the table itself refuses what does not come through the model."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.loader import MigrationLoader

from django_idempotency.audit.models import AuditEvent
from django_idempotency.audit.triggers import AppendOnly
from tests.audit.test_models import FACTS

pytestmark = [pytest.mark.django_db(transaction=True)]
UPDATE = "UPDATE idempotency_auditevent SET reason = 'another'"
DELETE = "DELETE FROM idempotency_auditevent"
PURGE = "SELECT set_config('idempotency.purge', 'on', true)"


def execute(*statements: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def reasons() -> list[str]:
    return list(AuditEvent.objects.values_list("reason", flat=True))


@pytest.mark.postgresql
@pytest.mark.parametrize("statements", [[UPDATE], [DELETE], [PURGE, UPDATE]])
def test_raw_sql_is_refused(statements: list[str]) -> None:
    AuditEvent.objects.append(**FACTS)
    with pytest.raises(IntegrityError, match="idempotency_auditevent is append-only"):
        execute(*statements)
    assert reasons() == ["stuck"]


@pytest.mark.postgresql
def test_the_door_of_the_purge_closes_with_its_transaction() -> None:
    AuditEvent.objects.append(**FACTS)
    execute(PURGE, DELETE)
    assert reasons() == []
    AuditEvent.objects.append(**FACTS)
    with pytest.raises(IntegrityError):
        execute(DELETE)
    list(AuditEvent.objects.purge())
    with pytest.raises(IntegrityError):
        execute(DELETE)
    assert reasons() == ["stuck"]


def test_the_migration_can_be_reversed_and_applied_again() -> None:
    AuditEvent.objects.append(**FACTS)
    try:
        call_command("migrate", "idempotency", "0001", stdout=StringIO())
        execute(UPDATE)
        assert reasons() == ["another"]
    finally:
        call_command("migrate", "idempotency", stdout=StringIO())
    if connection.vendor == "postgresql":
        with pytest.raises(IntegrityError):
            execute(UPDATE)


class Elsewhere:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "idempotency" else None


def statements() -> list[str]:
    state = MigrationLoader(connection).project_state()
    with connection.schema_editor(collect_sql=True) as editor:
        AppendOnly("AuditEvent").database_forwards("idempotency", editor, state, state)
    return editor.collected_sql


@pytest.mark.postgresql
def test_databases_without_the_table_get_no_trigger(settings: Any) -> None:
    assert any("CREATE TRIGGER" in statement for statement in statements())
    settings.DATABASE_ROUTERS = [Elsewhere()]
    assert statements() == []


@pytest.mark.sqlite
def test_sqlite_gets_no_trigger() -> None:
    assert statements() == []
