"""Tables with names that must be quoted, and tables in partitions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from django_idempotency.writes import get_or_insert, upsert
from tests.writes.models import Fact, Hostile, Reading

pytestmark = pytest.mark.django_db(transaction=True)
QUOTED = '"say ""when"""'
TABLE = '"select ""all"" 100%"'
HOSTILE = """
CREATE TABLE {table} (
    "id" {serial}, "order" varchar(20) UNIQUE NOT NULL, "50% off" integer NOT NULL, "%s" integer NOT NULL,
    {quoted} integer NOT NULL, "x; DROP TABLE tests_fact" integer NOT NULL, "payload_hash" {bytes},
    "revision" bigint NOT NULL
)
"""
PARTITIONED = """
CREATE TABLE tests_reading (
    id uuid NOT NULL, day date NOT NULL, sensor varchar(20) NOT NULL, value integer NOT NULL,
    payload_hash bytea, revision bigint NOT NULL, PRIMARY KEY (id, day), UNIQUE (day, sensor)
) PARTITION BY RANGE (day);
CREATE TABLE tests_reading_1 PARTITION OF tests_reading FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
CREATE TABLE tests_reading_2 PARTITION OF tests_reading FOR VALUES FROM ('2025-02-01') TO ('2025-03-01')
"""


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def _hostile() -> Iterator[None]:
    is_postgresql = connection.vendor == "postgresql"
    serial = "bigserial PRIMARY KEY" if is_postgresql else "integer PRIMARY KEY AUTOINCREMENT"
    execute(HOSTILE.format(table=TABLE, quoted=QUOTED, serial=serial, bytes="bytea" if is_postgresql else "blob"))
    yield
    execute(f"DROP TABLE {TABLE}")


def hostile(key: str, number: int) -> Hostile:
    return Hostile(key=key, percent=number, placeholder=number, quote=number, semicolon=number)


def stored() -> list[tuple[Any, ...]]:
    columns = f'"order", "50% off", "%s", {QUOTED}, "x; DROP TABLE tests_fact", "revision"'
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT {columns} FROM {TABLE} ORDER BY "order"')
        return list(cursor.fetchall())


@pytest.mark.usefixtures("_hostile")
@pytest.mark.parametrize("guard", ["hash", "columns"])
@pytest.mark.parametrize("count", [1, 30])
def test_names_that_must_be_quoted_are(guard: str, count: int) -> None:
    def write(number: int) -> dict[str, int]:
        rows = [hostile(f"{key:02}", number) for key in range(count)]
        return {name: total for name, total in upsert(Hostile, rows, guard=guard).counts.items() if total}

    assert [write(1), write(1), write(2)] == [{"inserted": count}, {"unchanged": count}, {"updated": count}]
    assert stored() == [(f"{key:02}", 2, 2, 2, 2, 2) for key in range(count)]
    found = get_or_insert(Hostile, [hostile("00", 9), hostile("new", 9)], key="key")
    assert ([row.quote for row in found.unchanged], len(found.inserted)) == ([2], 1)
    assert Fact.objects.count() == 0


@pytest.fixture
def _partitions() -> Iterator[None]:
    execute(*PARTITIONED.split(";"))
    yield
    execute("DROP TABLE tests_reading")


def readings(value: int, count: int) -> list[Reading]:
    days = [dt.date(2025, 1, 31) + dt.timedelta(days=number % 2) for number in range(count)]
    return [Reading(day=day, sensor=str(number), value=value) for number, day in enumerate(days)]


@pytest.mark.postgresql
@pytest.mark.usefixtures("_partitions")
@pytest.mark.parametrize("guard", ["hash", "columns"])
@pytest.mark.parametrize("count", [2, 30])
def test_partitioned_tables(guard: str, count: int) -> None:
    results = [upsert(Reading, readings(value, count), guard=guard) for value in (1, 1, 2)]
    assert [len(results[number].of(name)) for number, name in enumerate(("inserted", "unchanged", "updated"))] == [  # type: ignore[arg-type]
        count
    ] * 3
    pks = {row.sensor: row.pk for row in results[0].inserted}
    assert {row.sensor: row.pk for row in results[1].unchanged} == pks
    assert {row.sensor: row.pk for row in results[2].updated} == pks
    assert {tuple(pk) for pk in Reading.objects.values_list("pk", flat=True)} == set(pks.values())


@pytest.mark.postgresql
def test_before_postgresql_18_a_system_column_tells_what_was_inserted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_idempotency.writes.compilation._TELLS_OLD_ROWS", 10**9)
    for amount, outcome in [(1, "inserted"), (1, "unchanged"), (2, "updated"), (3, "updated")]:
        assert len(upsert(Fact, [Fact(biz_key="a", amount=amount)], key="biz_key").of(outcome)) == 1  # type: ignore[arg-type]


@pytest.mark.postgresql
@pytest.mark.parametrize("count", [1, 30])
def test_a_key_that_the_database_changes_is_refused(count: int) -> None:
    execute(
        "CREATE FUNCTION lowered() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN NEW.biz_key := lower(NEW.biz_key); RETURN NEW; END'",
        "CREATE TRIGGER lowered BEFORE INSERT ON tests_fact FOR EACH ROW EXECUTE FUNCTION lowered()",
    )
    try:
        with pytest.raises(ValueError, match="the database has changed a key"):
            upsert(Fact, [Fact(biz_key=f"A{number}") for number in range(count)], key="biz_key")
        assert not Fact.objects.exists()
    finally:
        execute("DROP FUNCTION lowered CASCADE")
