"""A window accepts a payload once within its time, exactly, and only together with the effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.dispatch import Signal
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from django_idempotency.exceptions import Duplicate
from django_idempotency.models import DedupEntry, DedupInterval
from django_idempotency.signals import batch_answered, operation_answered
from django_idempotency.writes import DedupWindow, Split
from tests.campaigns.sessions import Gate, other_sessions, seen_from_outside
from tests.models import Payment
from tests.writes.sequences import (
    DAY,
    IN_ORDER,
    SEQUENCES,
    START,
    accepted,
    bucket_accepts,
    gaps_are_kept,
    window_accepts,
)

pytestmark = pytest.mark.django_db(transaction=True)

MODES = ("fixed", "sliding", "event_time")


def make(mode: Any = "fixed", **options: Any) -> DedupWindow:
    return DedupWindow("feed", **{"ttl": DAY, "fields": ("id",), **options}, mode=mode)


def see(window: DedupWindow, payload: Any = 1, **options: Any) -> bool:
    """Ask a window in a transaction of its own."""
    if window.mode == "event_time":
        options.setdefault("at", START)
    with transaction.atomic():
        return window.first({"id": payload}, **options)


@contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    facts: list[dict[str, Any]] = []

    def listen(sender: Any, signal: Signal, **kwargs: Any) -> None:
        facts.append({"sender": sender, **kwargs})

    signal.connect(listen)
    try:
        yield facts
    finally:
        signal.disconnect(listen)


@pytest.mark.parametrize(("mode", "hours", "expected"), SEQUENCES)
def test_each_mode_accepts_exactly_what_it_should(mode: str, hours: tuple[float, ...], expected: list[float]) -> None:
    assert accepted(window_accepts(mode), hours) == expected


def test_buckets_fire_twice_at_the_boundary_and_drop_what_is_due() -> None:
    try:
        kept = accepted(bucket_accepts, (*IN_ORDER, 18.1))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE buckets")
    assert kept != [0, 24, 48.1]
    assert not gaps_are_kept(kept)
    assert all(gaps_are_kept(expected) for mode, _hours, expected in SEQUENCES if mode != "sliding")


@pytest.mark.parametrize("mode", MODES)
def test_a_payload_is_accepted_once(mode: str) -> None:
    window = make(mode)
    assert [see(window), see(window), see(window, 2), see(window)] == [True, False, True, False]


@pytest.mark.parametrize("mode", MODES)
def test_what_is_rolled_back_was_never_seen(mode: str) -> None:
    window = make(mode)
    with transaction.atomic():
        assert window.first({"id": 1}, at=START)
        transaction.set_rollback(True)
    assert see(window)
    assert not see(window)


@pytest.mark.parametrize("mode", MODES)
def test_without_a_transaction_nothing_is_accepted(mode: str) -> None:
    window = make(mode)
    for ask in (lambda: window.first({"id": 1}, at=START), lambda: window.split([{"id": 1}], at=START)):
        with pytest.raises(transaction.TransactionManagementError, match=r"inside transaction\.atomic"):
            ask()
    assert see(window)


class InTestCases(TestCase):
    def test_windows_work_in_the_transaction_of_a_test_case(self) -> None:
        window = make()
        assert window.first({"id": 1})
        assert not window.first({"id": 1})
        assert window.split([{"id": 1}, {"id": 2}]).fresh == [{"id": 2}]


@pytest.mark.parametrize("mode", MODES)
def test_batches_keep_their_order_and_repeat_nothing(mode: str) -> None:
    window = make(mode)
    see(window, 3)
    payloads = [{"id": number, "place": place} for place, number in enumerate((9, 3, 1, 9, 2, 1, 3))]
    with transaction.atomic():
        split = window.split(iter(payloads), at=START)
    assert isinstance(split, Split)
    assert [payload["place"] for payload in split.fresh] == [0, 2, 4]
    assert [payload["place"] for payload in split.duplicates] == [1, 3, 5, 6]
    with transaction.atomic():
        assert window.split(payloads, at=START) == ([], payloads)
        assert window.split([], at=START) == ([], [])


@pytest.mark.parametrize("mode", MODES)
def test_batches_of_any_size_are_judged_as_single_payloads_are(mode: str) -> None:
    window, payloads = make(mode), [{"id": number} for number in range(1203)]
    with transaction.atomic():
        assert window.split(payloads[::2], at=START).fresh == payloads[::2]
    with transaction.atomic():
        assert window.split(payloads, at=START) == (payloads[1::2], payloads[::2])


@pytest.mark.parametrize(("mode", "hours", "expected"), [case for case in SEQUENCES if case[0] == "event_time"])
def test_events_of_one_batch_are_judged_by_their_times(
    mode: str, hours: tuple[float, ...], expected: list[float]
) -> None:
    del expected
    window, events = make(mode), [{"id": 1, "hour": hour} for hour in hours]
    with transaction.atomic():
        split = window.split(events, at=lambda event: START + timedelta(hours=event["hour"]))
    kept = sorted(event["hour"] for event in split.fresh)
    greedy: list[float] = []
    for hour in sorted(hours):
        if not greedy or hour - greedy[-1] >= 24:
            greedy.append(hour)
    assert kept == greedy
    assert len(split.duplicates) == len(hours) - len(kept)


@pytest.mark.parametrize("mode", MODES)
def test_equal_events_of_one_file_are_counted_where_that_is_asked(mode: str) -> None:
    window, coffees = make(mode), [{"id": "coffee"}, {"id": "tea"}, {"id": "coffee"}]
    for expected in (coffees, []):
        with transaction.atomic():
            assert window.split(coffees, counted=True, at=START).fresh == expected
    with transaction.atomic():
        assert window.split([*coffees, {"id": "coffee"}], counted=True, at=START).fresh == [{"id": "coffee"}]
    assert [see(window, "coffee", occurrence=number, at=START) for number in (1, 2, 3, 4)] == [
        False,
        False,
        False,
        True,
    ]


def test_the_clock_is_the_database_s_unless_another_is_given() -> None:
    window = make(ttl=timedelta(minutes=1))
    assert see(window)
    (entry,) = DedupEntry.objects.all()
    assert entry.expires_at - entry.first_seen_at == timedelta(minutes=1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_TIMESTAMP")
        (now,) = cursor.fetchone()
    if isinstance(now, datetime):
        assert abs(now - entry.first_seen_at) < timedelta(seconds=30)
    assert not see(window)
    DedupEntry.objects.update(expires_at=entry.first_seen_at)
    assert see(window)
    assert not see(window)


@pytest.mark.parametrize("mode", ["fixed", "sliding"])
def test_there_is_one_row_a_payload_however_often_its_window_is_over(mode: str) -> None:
    window = make(mode)
    for days in range(5):
        assert see(window, at=START + days * DAY)
    assert DedupEntry.objects.count() == 1


def test_duplicates_are_counted_where_that_is_asked() -> None:
    window = make(track_hits=True)
    see(window, at=START)
    later = START + timedelta(hours=3)
    with transaction.atomic():
        split = window.split([{"id": 1}, {"id": 2}, {"id": 1}, {"id": 2}, {"id": 1}], at=later)
    assert split.fresh == [{"id": 2}]
    rows = DedupEntry.objects.order_by("id").values_list("hits", "first_seen_at", "last_seen_at", "expires_at")
    assert list(rows) == [(3, START, later, START + DAY), (1, later, later, later + DAY)]
    assert see(window, at=START + DAY)
    assert DedupEntry.objects.order_by("id").values_list("hits", flat=True)[0] == 0


def test_nothing_is_counted_otherwise() -> None:
    window = make()
    for _ in range(3):
        see(window)
    assert DedupEntry.objects.get().hits == 0


def test_a_flagged_duplicate_passes_and_is_counted() -> None:
    window = make(on_duplicate="flag")
    with heard(operation_answered) as facts:
        assert [see(window), see(window)] == [True, True]
    assert [(fact["outcome"], fact["reason"]) for fact in facts] == [("executed", ""), ("executed", "duplicate")]
    with transaction.atomic(), heard(batch_answered) as batches:
        assert window.split([{"id": 1}, {"id": 2}]) == ([{"id": 1}, {"id": 2}], [{"id": 1}])
    assert batches[0]["counts"] == {"executed": 2, "replayed": 0}
    assert DedupEntry.objects.order_by("id").values_list("hits", flat=True)[0] == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_duplicate_is_an_error_where_that_is_asked_and_accepts_nothing(mode: str) -> None:
    window = make(mode, on_duplicate="raise")
    assert see(window)
    with pytest.raises(Duplicate, match="accepted before") as refusal:
        see(window)
    assert refusal.value.window == "feed"
    kept = DedupInterval.objects.get() if mode == "event_time" else DedupEntry.objects.get()
    assert refusal.value.digest == bytes(kept.digest)
    with transaction.atomic():
        with pytest.raises(Duplicate):
            window.split([{"id": 2}, {"id": 1}, {"id": 3}], at=START)
        assert window.split([{"id": 2}, {"id": 3}], at=START).fresh == [{"id": 2}, {"id": 3}]


def test_once_runs_a_function_for_the_first_of_its_kind() -> None:
    window = make()

    @window.once(payload=lambda reference, **_: {"id": reference})
    def pay(reference: str, *, amount: int) -> Payment:
        return Payment.objects.create(reference=reference, amount=amount)

    first = pay("a", amount=3)
    assert first is not None
    assert first.amount == 3
    assert pay("a", amount=4) is None
    assert pay.__name__ == "pay"
    assert seen_from_outside(lambda: list(Payment.objects.values_list("reference", "amount"))) == [("a", 3)]


def test_once_forgets_what_has_failed() -> None:
    window, failures = make(), iter([OSError("gone"), None])

    @window.once(payload=lambda: {"id": 1})
    def pay() -> str:
        Payment.objects.create(reference="a", amount=1)
        if failure := next(failures):
            raise failure
        return "paid"

    with heard(operation_answered) as facts:
        with pytest.raises(OSError, match="gone"):
            pay()
        assert Payment.objects.count() == 0
        assert [pay(), pay()] == ["paid", None]
    assert Payment.objects.count() == 1
    assert [fact["outcome"] for fact in facts] == ["executed", "replayed"]
    assert facts[0]["duration"] >= 0
    assert facts[1]["duration"] is None


def test_once_knows_occurrences_and_times_of_events() -> None:
    window = make("event_time")

    @window.once(payload=lambda **e: e, occurrence=lambda **e: e["number"], at=lambda **e: START + e["later"])
    def handle(**event: Any) -> bool:
        return True

    events = [(1, timedelta(0)), (1, timedelta(hours=1)), (2, timedelta(hours=1)), (1, DAY)]
    assert [handle(id=1, number=n, later=later) for n, later in events] == [True, None, True, True]


def test_once_raises_where_that_is_asked_and_passes_flagged_duplicates() -> None:
    strict = make(on_duplicate="raise").once(payload=lambda: {"id": 1})(lambda: "done")
    assert strict() == "done"
    with pytest.raises(Duplicate):
        strict()
    assert make(on_duplicate="flag").once(payload=lambda: {"id": 1})(lambda: "done")() == "done"


def test_once_refuses_coroutine_functions() -> None:
    async def handle() -> None: ...

    with pytest.raises(TypeError, match="sync_to_async"):
        make().once(payload=lambda: {"id": 1})(handle)


def test_each_answer_is_told_once_in_its_transaction() -> None:
    window = make()
    states = []
    with heard(operation_answered) as facts:

        def note(**kwargs: Any) -> None:
            states.append(connection.in_atomic_block)

        operation_answered.connect(note)
        try:
            assert [see(window), see(window)] == [True, False]
        finally:
            operation_answered.disconnect(note)
    digest = bytes(DedupEntry.objects.get().digest)
    common = {"using": "default", "layer": "writes", "operation": "feed", "scope": "", "digest": digest}
    common |= {
        "fingerprint": b"",
        "outcome_hash": b"",
        "attempt": 1,
        "duration": None,
        "status": None,
        "reason": "",
        "is_recorded": True,
    }
    assert facts == [{"sender": DedupWindow, "outcome": outcome, **common} for outcome in ("executed", "replayed")]
    assert states == [True, True]


def test_a_batch_is_told_once() -> None:
    window = make()
    see(window)
    with heard(operation_answered) as singles, heard(batch_answered) as facts, transaction.atomic():
        window.split([{"id": 1}, {"id": 2}, {"id": 2}, {"id": 3}])
    assert singles == []
    (fact,) = facts
    assert fact.pop("duration") >= 0
    assert fact == {
        "sender": DedupWindow,
        "using": "default",
        "layer": "writes",
        "operation": "feed",
        "counts": {"executed": 2, "replayed": 2},
    }


@pytest.mark.parametrize("mode", MODES)
def test_an_exchange_of_secrets_forgets_nothing(mode: str) -> None:
    """Workers know the old secret, then both, then the new one; those at work at one time meet."""
    window = make(mode)
    stages = [("old",), ("new", "old"), ("new",)]
    outcomes = []
    for number, secrets in enumerate(stages):
        with override_settings(IDEMPOTENCY_SECRETS=secrets):
            outcomes.append([see(window, payload) for payload in range(number + 1)])
    assert outcomes == [[True], [False, True], [mode != "sliding", False, True]]


@pytest.mark.parametrize("options", [{}, {"track_hits": True}])
def test_an_exchange_of_secrets_prolongs_no_window(options: dict[str, Any]) -> None:
    window = make(**options)
    with override_settings(IDEMPOTENCY_SECRETS=("old",)):
        assert see(window, at=START)
    with override_settings(IDEMPOTENCY_SECRETS=("new", "old")):
        assert not see(window, at=START + timedelta(hours=23))
        assert see(window, at=START + DAY)


def test_the_payload_cannot_be_guessed_from_the_table() -> None:
    with override_settings(IDEMPOTENCY_SECRETS=("one",)):
        see(make())
    with override_settings(IDEMPOTENCY_SECRETS=("another",)):
        see(make())
    first, second = (bytes(entry.digest) for entry in DedupEntry.objects.all())
    assert first != second


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"fields": ()},
        {"fields": "id"},
        {"fields": (1,)},
        {"ttl": timedelta(0)},
        {"mode": "bucket"},
        {"on_duplicate": "ignore"},
        {"lateness": DAY},
        {"mode": "event_time", "lateness": -DAY},
        {"mode": "event_time", "on_duplicate": "flag"},
        {"mode": "event_time", "track_hits": True},
    ],
)
def test_a_window_that_makes_no_sense_cannot_be_made(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="DedupWindow"):
        DedupWindow(**{"name": "feed", "ttl": DAY, "fields": ("id",), **options})


def test_fields_must_be_named() -> None:
    with pytest.raises(TypeError, match="fields"):
        DedupWindow("feed", ttl=DAY)  # type: ignore[call-arg]


def test_times_that_make_no_sense_are_refused() -> None:
    with transaction.atomic():
        with pytest.raises(ValueError, match="at= is missing"):
            make("event_time").first({"id": 1})
        for mode in MODES:
            with pytest.raises(ValueError, match="time zone"):
                make(mode).first({"id": 1}, at=datetime(2026, 3, 1))
        with pytest.raises(ValueError, match="one for all"):
            make().split([{"id": 1}, {"id": 2}], at=lambda item: START + timedelta(hours=item["id"]))


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", ["fixed", "event_time"])
def test_a_duplicate_costs_one_query_no_lock_and_no_log(mode: str) -> None:
    window = make(mode)
    see(window)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert not window.first({"id": 1}, at=None if mode == "fixed" else START)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_current_xact_id_if_assigned() IS NULL, count(*) FILTER (WHERE mode LIKE '%%Row%%Lock' "
                "AND mode <> 'RowShareLock') FROM pg_locks WHERE pid = pg_backend_pid()"
            )
            assert cursor.fetchone() == (True, 0)
    statements = [query["sql"] for query in queries if "idempotency_dedup" in query["sql"]]
    assert len(statements) == 1
    assert statements[0].startswith("SELECT")


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", ["fixed", "event_time"])
def test_a_duplicate_in_a_long_transaction_holds_up_nobody(mode: str) -> None:
    window, gate = make(mode), Gate()
    see(window)

    def ask_and_wait() -> bool:
        with transaction.atomic():
            is_first = window.first({"id": 1}, at=None if mode == "fixed" else START)
            gate()
        return is_first

    with other_sessions() as start:
        long = start(ask_and_wait)
        gate.wait_until_reached()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '300ms'")
            assert not see(window)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = 0")
            gate.open()
        assert long.result(30) is False


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_rolled_back", [False, True])
def test_a_rival_in_flight_is_waited_for(mode: str, is_rolled_back: bool) -> None:
    window, gate = make(mode), Gate()

    def claim_and_wait() -> None:
        with transaction.atomic():
            assert window.first({"id": 1}, at=START)
            gate()
            transaction.set_rollback(is_rolled_back)

    with other_sessions() as start:
        rival = start(claim_and_wait)
        gate.wait_until_reached()
        asked = start(see, window, at=START)
        gate.open()
        rival.result(30)
        assert asked.result(30) is is_rolled_back


def test_answers_add_up() -> None:
    window = make()
    counts: Counter[str] = Counter()
    with heard(operation_answered) as facts, heard(batch_answered) as batches:
        for payload in (1, 2, 1, 3):
            see(window, payload)
        with transaction.atomic():
            window.split([{"id": number} for number in (3, 4, 4, 5)])
    counts.update(fact["outcome"] for fact in facts)
    for batch in batches:
        counts.update(batch["counts"])
    assert counts == {"executed": DedupEntry.objects.count(), "replayed": 3}
