"""What belongs to a table or depends on it follows the swap, or the swap is refused (PostgreSQL)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, models

from django_idempotency.reprocessing import Rollout, SwapRefused
from tests.reprocessing.models import NamedTotal, Total
from tests.reprocessing.projections import Adding, AddingByName, clear, enter, expected, found
from tests.reprocessing.test_rollouts import WHO, promoted, states

pytestmark = pytest.mark.postgresql
NAMED = "tests_named_total"


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def rows(query: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


@pytest.fixture
def second() -> Rollout:
    """A second version, built beside a live table that has the name itself."""
    enter(20)
    promoted(AddingByName)
    rollout = Rollout(AddingByName(version=2))
    rollout.build()
    return rollout


@contextmanager
def undone(*statements: str) -> Iterator[None]:
    try:
        yield
    finally:
        execute(*statements)


def assert_refused(rollout: Rollout, sentence: str) -> None:
    refusals, repairs = rollout.preview()
    assert any(sentence in refusal for refusal in refusals), refusals
    assert repairs == []
    with pytest.raises(SwapRefused, match=re.escape(sentence)) as refused:
        rollout.promote(WHO)
    assert list(refused.value.findings) == refusals
    assert states() == {1: "live", 2: "built"}


def test_a_view_is_refused(second: Rollout) -> None:
    execute(f"CREATE VIEW dependent AS SELECT * FROM {NAMED}")
    assert_refused(second, "The view dependent would go on reading the old table")


def test_a_materialised_view_is_refused(second: Rollout) -> None:
    execute(f"CREATE MATERIALIZED VIEW dependent AS SELECT * FROM {NAMED}")
    with undone("DROP MATERIALIZED VIEW dependent"):
        assert_refused(second, "The materialised view dependent would go on reading")


def test_a_foreign_key_that_comes_in_is_refused(second: Rollout) -> None:
    execute(f"CREATE TABLE dependent (total bigint CONSTRAINT dependent_total REFERENCES {NAMED})")
    assert_refused(second, "The foreign key dependent_total of dependent would go on pointing to the old table")


@pytest.mark.parametrize("published", [f"TABLE {NAMED}", "ALL TABLES"])
def test_a_publication_is_refused(second: Rollout, published: str) -> None:
    execute(f"CREATE PUBLICATION tests_publication FOR {published}")
    with undone("DROP PUBLICATION tests_publication"):
        assert_refused(second, "Subscribers of the publication tests_publication")


def test_a_trigger_is_refused(second: Rollout) -> None:
    execute(
        "CREATE FUNCTION tests_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        f"CREATE TRIGGER tests_trigger BEFORE INSERT ON {NAMED} FOR EACH ROW EXECUTE FUNCTION tests_nothing()",
    )
    with undone("DROP FUNCTION tests_nothing CASCADE"):
        assert_refused(second, "The trigger tests_trigger would stay on the old table")


@pytest.mark.parametrize(
    "statement",
    [f"ALTER TABLE {NAMED} ENABLE ROW LEVEL SECURITY", f"CREATE POLICY tests_policy ON {NAMED} USING (true)"],
)
def test_row_level_security_is_refused(second: Rollout, statement: str) -> None:
    execute(statement)
    assert_refused(second, "Row-level security of tests_named_total")


def test_a_rule_is_refused(second: Rollout) -> None:
    execute(f"CREATE RULE tests_rule AS ON DELETE TO {NAMED} DO ALSO NOTHING")
    assert_refused(second, "The rule tests_rule")


def test_an_inheritance_is_refused(second: Rollout) -> None:
    execute(f"CREATE TABLE dependent () INHERITS ({NAMED})")
    assert_refused(second, "inheritance or a partitioning with dependent")


def test_a_sequence_that_others_use_is_refused(second: Rollout) -> None:
    execute(
        f"ALTER TABLE {NAMED} ADD COLUMN number serial",
        f"CREATE TABLE dependent (number bigint DEFAULT nextval('{NAMED}_number_seq'))",
    )
    assert_refused(second, f"Its sequence {NAMED}_number_seq is also used by dependent")


def test_a_function_of_its_row_type_is_refused(second: Rollout) -> None:
    execute(f"CREATE FUNCTION tests_latest() RETURNS SETOF {NAMED} LANGUAGE sql AS 'SELECT * FROM {NAMED}'")
    with undone("DROP FUNCTION tests_latest"):
        assert_refused(second, "The function tests_latest() refers to the old table")


@pytest.fixture
def clerk() -> Iterator[str]:
    """A role that a test may grant something to."""
    execute("DROP ROLE IF EXISTS tests_clerk", "CREATE ROLE tests_clerk")
    yield "tests_clerk"
    clear()
    execute("DROP OWNED BY tests_clerk", "DROP ROLE tests_clerk")


def granted(table: str) -> list[Any]:
    return rows(
        "SELECT privilege_type, is_grantable FROM information_schema.table_privileges "
        f"WHERE table_name = '{table}' AND grantee = 'tests_clerk' ORDER BY 1"
    )


def test_grants_follow_and_others_are_taken_away(clerk: str, second: Rollout) -> None:
    execute(
        f"GRANT SELECT ON {NAMED} TO {clerk} WITH GRANT OPTION",
        f"GRANT UPDATE (amount) ON {NAMED} TO {clerk}",
        f"GRANT DELETE ON {NAMED}__v2 TO {clerk}",
    )
    assert any("SELECT to tests_clerk" in repair for repair in second.preview()[1])
    second.promote(WHO)
    assert granted(NAMED) == [("SELECT", "YES")]
    assert rows(f"SELECT has_column_privilege('{clerk}', '{NAMED}', 'amount', 'UPDATE')") == [(True,)]
    assert rows(f"SELECT has_column_privilege('{clerk}', '{NAMED}', 'entries', 'UPDATE')") == [(False,)]


def test_the_owner_follows(clerk: str, second: Rollout) -> None:
    execute(f"GRANT ALL ON SCHEMA public TO {clerk}", f"ALTER TABLE {NAMED} OWNER TO {clerk}")
    second.promote(WHO)
    assert rows(f"SELECT tableowner FROM pg_tables WHERE tablename = '{NAMED}'") == [(clerk,)]


def test_sequences_go_on_and_no_key_is_given_out_twice(second: Rollout) -> None:
    before = [NamedTotal.objects.create(account=f"new{number}").pk for number in range(30)]
    assert any("sequence tests_named_total_id_seq is continued" in repair for repair in second.preview()[1])
    second.promote(WHO)
    after = NamedTotal.objects.create(account="newest").pk
    assert after > max(before)
    second.roll_back(WHO)
    assert NamedTotal.objects.create(account="newest of all").pk > after


def test_the_old_version_can_be_dropped_after_a_swap(second: Rollout) -> None:
    second.promote(WHO)
    second.drop(WHO, version=1)
    assert NamedTotal.objects.create(account="new").pk
    assert states() == {1: "dropped", 2: "live"}


def names() -> dict[str, list[str]]:
    """The names of constraints, indexes and sequences, by table."""
    found = rows(
        "SELECT relname, array_agg(name ORDER BY name) FROM pg_class JOIN ("
        "SELECT conrelid AS id, conname::text AS name FROM pg_constraint WHERE contype <> 'n' "
        "UNION SELECT indrelid, indexrelid::regclass::text FROM pg_index "
        "UNION SELECT refobjid, objid::regclass::text FROM pg_depend JOIN pg_class ON pg_class.oid = objid "
        "WHERE relkind = 'S' AND deptype IN ('a', 'i')) AS named ON named.id = oid "
        f"WHERE relname LIKE '{NAMED}%' AND relkind = 'r' GROUP BY relname"
    )
    return dict(found)


def test_the_live_table_always_has_the_names_that_migrations_know(second: Rollout) -> None:
    before = names()[NAMED]
    assert {"tests_named_amount", "tests_named_entries", f"{NAMED}_pkey", f"{NAMED}_id_seq"} < set(before)
    for _ in range(2):
        second.promote(WHO)
        assert names()[NAMED] == before
        assert all(name.endswith("__v1") for name in names()[f"{NAMED}__v1"])
        second.roll_back(WHO)
        assert names()[NAMED] == before


def test_dependents_and_grants_stay_with_a_view(clerk: str) -> None:
    enter(20)
    promoted(Adding)
    execute(
        f"GRANT SELECT ON tests_total TO {clerk}",
        "CREATE VIEW dependent AS SELECT sum(amount) AS amount FROM tests_total",
        "ALTER VIEW tests_total SET (security_barrier = true)",
    )
    enter(20)
    second = promoted(Adding, 2)
    total = sum(amount for amount, _ in expected().values())
    assert rows("SELECT amount FROM dependent") == [(total,)]
    assert granted("tests_total") == [("SELECT", "NO")]
    assert rows("SELECT reloptions FROM pg_class WHERE relname = 'tests_total'") == [(["security_barrier=true"],)]
    second.roll_back(WHO)
    assert rows(f"SELECT amount < {total} FROM dependent") == [(True,)]


class Renumbered(models.Model):
    """Another shape under the same name: a column more, and one of another type."""

    account = models.CharField(max_length=16, primary_key=True)
    note = models.CharField(max_length=16, default="")
    amount = models.BigIntegerField(default=0)
    entries = models.BigIntegerField(default=0)

    class Meta:
        app_label = "tests_elsewhere"
        db_table = "tests_total"
        managed = False

    def __str__(self) -> str:
        return self.account


class Appended(models.Model):
    """Another shape under the same name: a column more, declared in the middle."""

    account = models.CharField(max_length=16, primary_key=True)
    note = models.CharField(max_length=16, default="")
    amount = models.BigIntegerField(default=0)
    entries = models.IntegerField(default=0)

    class Meta:
        app_label = "tests_elsewhere"
        db_table = "tests_total"
        managed = False

    def __str__(self) -> str:
        return self.account


class InAnotherShape(Adding, register=False):
    name = Adding.name
    model = Renumbered


class WithAnotherColumn(Adding, register=False):
    name = Adding.name
    model = Appended


def test_a_column_more_is_appended_and_dependents_stay() -> None:
    enter(20)
    promoted(Adding)
    execute("CREATE VIEW dependent AS SELECT sum(amount) AS amount FROM tests_total")
    promoted(WithAnotherColumn, 2)
    columns = rows("SELECT attname FROM pg_attribute WHERE attrelid = 'tests_total'::regclass ORDER BY attnum")
    assert [column for (column,) in columns] == ["account", "amount", "entries", "note"]
    assert found(Appended) == expected()


def test_another_shape_makes_the_view_anew_and_keeps_its_grants(clerk: str) -> None:
    enter(20)
    promoted(Adding)
    execute(f"GRANT SELECT, INSERT ON tests_total TO {clerk}")
    second = Rollout(InAnotherShape(version=2))
    second.build()
    assert "dropped and created anew" in second.preview()[1][0]
    second.promote(WHO)
    assert found(Renumbered) == expected()
    assert granted("tests_total") == [("INSERT", "NO"), ("SELECT", "NO")]
    Rollout(Adding(version=2)).roll_back(WHO)
    assert found(Total) == expected()


def test_another_shape_is_refused_where_something_depends_on_the_view() -> None:
    promoted(Adding)
    execute("CREATE VIEW dependent AS SELECT sum(amount) AS amount FROM tests_total")
    second = Rollout(InAnotherShape(version=2))
    second.build()
    assert_refused(second, "The view dependent depends on tests_total")


def test_a_table_in_place_of_the_view_is_refused() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Total)
    rollout = Rollout(Adding(version=1))
    rollout.build()
    with pytest.raises(SwapRefused, match="is not a view"):
        rollout.promote(WHO)


def test_rows_are_written_through_the_view() -> None:
    enter(10)
    promoted(Adding)
    Total.objects.create(account="new", amount=1)
    again = [Total(account="new", amount=7)]
    Total.objects.bulk_create(again, update_conflicts=True, unique_fields=["account"], update_fields=["amount"])
    assert rows("SELECT amount FROM tests_total__v1 WHERE account = 'new'") == [(7,)]
