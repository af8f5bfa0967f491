"""A8: claims within Django's transactions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase, override_settings

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.sessions import (
    atomic_requests,
    seen_from_outside,
)
from tests.models import Payment
from tests.records import rows

URLS = "tests.conformance.urls_databases"
STORES = "tests.conformance.views_databases"
DAY = timedelta(days=1)
pytestmark = pytest.mark.urls(URLS)


# 104: Django's transactions


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("path", ["/transactional/", "/non-atomic-class/", "/non-atomic-route/"])
def test_a8_104_with_a_key_the_engine_has_its_transaction_whatever_atomic_requests_says(
    alice: Caller, path: str, atomic: bool
) -> None:
    key = new_key()
    with atomic_requests(atomic):
        first = alice.post(path, {"amount": 3}, key=key)
        again = alice.post(path, {"amount": 3}, key=key)
    assert (first.status_code, first.json()["reference"]) == (201, "in a transaction")
    assert (again.content, again["Idempotent-Replayed"], rows()) == (first.content, "true", (1, 1))


@pytest.mark.parametrize(
    ("path", "atomic", "expected"),
    [
        ("/transactional/", False, "autocommit"),
        ("/transactional/", True, "in a transaction"),
        ("/non-atomic-class/", True, "autocommit"),
        ("/non-atomic-route/", True, "autocommit"),
    ],
)
def test_a8_104_without_a_key_atomic_requests_means_what_it_says(
    alice: Caller, path: str, atomic: bool, expected: str
) -> None:
    with atomic_requests(atomic):
        written = alice.post(path, {"amount": 3})
        refused = alice.post(path, {"amount": 3, "reference": "refused"})
    assert (written.status_code, written.json()["reference"]) == (201, expected)
    assert refused.status_code == 400
    assert Payment.objects.filter(reference="refused").exists() == (expected == "autocommit")


@pytest.mark.parametrize("atomic", [False, True])
def test_a8_104_a_durable_block_in_the_view_is_refused_as_under_atomic_requests(alice: Caller, atomic: bool) -> None:
    with atomic_requests(atomic):
        failed = alice.post("/transactional/", {"amount": 3, "reference": "durable"}, key=new_key())
    assert (failed.status_code, rows()) == (500, (0, 0))
    assert isinstance(failed.exc_info[1], RuntimeError)
    assert "durable" in str(failed.exc_info[1])


def test_a8_104_a_savepoint_in_the_view_rolls_back_alone(alice: Caller) -> None:
    assert alice.post("/transactional/", {"amount": 3, "reference": "savepoint"}, key=new_key()).status_code == 201
    assert [payment.reference for payment in Payment.objects.all()] == ["savepoint"]
    assert Record.objects.count() == 1


@pytest.mark.parametrize("atomic", [False, True])
def test_a8_104_an_outer_transaction_holds_effect_and_record(alice: Caller, atomic: bool) -> None:
    key = new_key()
    with atomic_requests(atomic):
        with transaction.atomic():
            first = alice.post("/watched/", {"amount": 3}, key=key)
            again = alice.post("/watched/", {"amount": 3}, key=key)
            assert (again.content, again["Idempotent-Replayed"], rows()) == (first.content, "true", (1, 1))
            transaction.set_rollback(True)
        assert rows() == (0, 0)
        retry = alice.post("/watched/", {"amount": 3}, key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))


@override_settings(ROOT_URLCONF=URLS)
class WithinATestCase(TestCase):
    """Everything happens in the transaction of the test."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.alice = Caller("alice")

    def test_a8_104_a_fresh_key_and_its_replay(self) -> None:
        for atomic in (False, True):
            with self.subTest(atomic=atomic), atomic_requests(atomic):
                key = new_key()
                first = self.alice.post("/watched/", {"amount": 3}, key=key)
                again = self.alice.post("/watched/", {"amount": 3}, key=key)
                assert (first.status_code, again.status_code) == (201, 201)
                assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
        assert rows() == (2, 2)

    def test_a8_104_refusals_leave_the_transaction_of_the_test_usable(self) -> None:
        stranger = {"Authorization": "Token unknown"}
        with atomic_requests(True):
            answers = [
                self.alice.post("/transactional/", {"amount": 3, "reference": "refused"}, key=new_key()),
                self.alice.post("/transactional/", {"amount": 3, "reference": "refused"}),
                self.alice.post("/watched/", {"amount": "much"}, key=new_key()),
                self.alice.post("/watched/", "{", key=new_key()),
                self.alice.post("/watched/", {"amount": 3}, key=new_key(), headers=stranger),
                self.alice.post("/watched/", {"amount": 3}, raw_key="malformed"),
                self.alice.post("/watched/", {"amount": 3}),
                self.alice.send("GET", "/watched/0/"),
                self.alice.send("PUT", "/watched/", {"amount": 3}),
            ]
            fresh = self.alice.post("/watched/", {"amount": 3}, key=new_key())
        assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 401, 400, 400, 404, 405]
        assert (fresh.status_code, Payment.objects.count()) == (201, 1)
        assert not connection.needs_rollback


@override_settings(ROOT_URLCONF=URLS)
class WithinATransactionTestCase(TransactionTestCase):
    """Everything is committed."""

    def test_a8_104_a_fresh_key_and_its_replay(self) -> None:
        alice, key = Caller("alice"), new_key()
        first = alice.post("/watched/", {"amount": 3}, key=key)
        again = alice.post("/watched/", {"amount": 3}, key=key)
        assert (first.status_code, again["Idempotent-Replayed"], again.content) == (201, "true", first.content)
        assert seen_from_outside(rows) == (1, 1)
