"""Projections of the tests, and what they must come to by a sum computed apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import Count, F, Sum

from django_idempotency.reprocessing import QuerySetSource, VersionedProjection
from django_idempotency.reprocessing.models import Generation, WatermarkRow
from tests.reprocessing.models import Entry, NamedTotal, Total


def add(into: Any, account: str, amount: int, entries: int = 1) -> None:
    """Add to a total, which may not be there: each call counts."""
    rows = into.objects.filter(account=account)
    into.objects.bulk_create([into(account=account)], ignore_conflicts=True)
    rows.update(amount=F("amount") + amount, entries=F("entries") + entries)


class Adding(VersionedProjection, register=False):
    """Adds up; to read an entry twice would show."""

    name = "totals"
    model = Total
    source = QuerySetSource(Entry.objects.all(), by=("id",))
    batch_size = 7

    def apply(self, into: Any, rows: Sequence[Entry]) -> None:
        amounts, counts = Counter[str](), Counter[str]()
        for row in rows:
            amounts[row.account] += row.amount
            counts[row.account] += 1
        for account in sorted(amounts):
            add(into, account, amounts[account], counts[account])


class AddingByName(Adding, register=False):
    model = NamedTotal
    strategy = "rename"


class BySnapshot(Adding, register=False):
    """Reads entries by the transaction that wrote them (PostgreSQL)."""

    source = QuerySetSource(Entry.objects.all(), by=("transaction", "id"))


class WrittenThrough(BySnapshot, register=False):
    """The application keeps the live version up to date; batches are quicker than the writers are."""

    write_through = True
    batch_size = 1000


class Recounting(Adding, register=False):
    """Counts each account anew, so that it may read entries twice."""

    source = QuerySetSource(Entry.objects.all(), by=("at", "id"), lag=timedelta(minutes=5))

    def apply(self, into: Any, rows: Sequence[Entry]) -> None:
        sums = expected(row.account for row in rows)
        into.objects.bulk_create(
            [into(account=account, amount=amount, entries=entries) for account, (amount, entries) in sums.items()],
            update_conflicts=True,
            unique_fields=["account"],
            update_fields=["amount", "entries"],
        )


class AtOnce(VersionedProjection, register=False):
    """Has no source to be resumed."""

    name = "totals"
    model = Total

    def build(self, into: Any) -> None:
        into.objects.bulk_create(
            into(account=account, amount=amount, entries=entries) for account, (amount, entries) in expected().items()
        )


def expected(accounts: Any = None) -> dict[str, tuple[int, int]]:
    """Return amount and number of entries by account, computed from the entries."""
    entries = Entry.objects.all() if accounts is None else Entry.objects.filter(account__in=set(accounts))
    sums = entries.values_list("account").annotate(Sum("amount"), Count("id")).order_by("account")
    return {account: (amount, count) for account, amount, count in sums}


def found(model: Any = Total) -> dict[str, tuple[int, int]]:
    """Return the same as the live version has it."""
    return {row.account: (row.amount, row.entries) for row in model.objects.order_by("account")}


def enter(count: int, *, accounts: int = 5) -> None:
    """Write entries."""
    Entry.objects.bulk_create(
        Entry(account=f"a{number % accounts}", amount=number * number % 97 + 1) for number in range(count)
    )


def enter_many(count: int, *, accounts: int = 5) -> None:
    """Write many more, within the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT CAST(0 AS bigint) UNION ALL "
            "SELECT n + 1 FROM numbers WHERE n + 1 < %s) "
            "INSERT INTO tests_entry (account, amount, at) "
            "SELECT 'a' || (n %% %s), n * n %% 97 + 1, CURRENT_TIMESTAMP FROM numbers",
            [count, accounts],
        )


def write_once(number: int, written: int) -> None:
    """Enter an amount and add it to the totals in one transaction, now the one first and now the other."""
    account, amount = f"a{(number + written) % 5}", written % 13 + 1
    with transaction.atomic():
        if written % 2:
            Entry.objects.create(account=account, amount=amount)
            add(WrittenThrough.model, account, amount)
        else:
            add(WrittenThrough.model, account, amount)
            Entry.objects.create(account=account, amount=amount)


def clear() -> None:
    """Leave no table, view or row of a projection behind."""
    Generation.objects.all().delete()
    WatermarkRow.objects.all().delete()
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_list(cursor)
        quote = connection.ops.quote_name
        names = [table for table in found if table.name.startswith(("tests_total", "tests_named_total", "dependent"))]
        for relation in sorted(names, key=lambda table: table.type != "v"):
            kind = "VIEW" if relation.type == "v" else "TABLE"
            cascade = " CASCADE" if connection.vendor == "postgresql" else ""
            with suppress(DatabaseError):  # gone with another one, or a materialised view
                cursor.execute(f"DROP {kind} IF EXISTS {quote(relation.name)}{cascade}")
