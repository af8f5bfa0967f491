"""Times are right under any time zone setting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings

from django_idempotency.core.records import Claim, Record
from django_idempotency.models import Record as Row
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.testing import CREATED, make_operation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("use_tz", [True, False])
def test_the_expiry_does_not_depend_on_the_time_zone(use_tz: bool, zone: str) -> None:
    store, operation = DatabaseStore(), make_operation()
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        with store.transaction():
            claim = store.claim(operation)
            assert isinstance(claim, Claim)
            promised = store.complete(claim, CREATED, ttl=timedelta(hours=1))
        with store.transaction():
            record = store.claim(operation)
    assert isinstance(record, Record)
    assert abs(promised - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=30)
    assert abs(record.expires_at - promised) < timedelta(milliseconds=1)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_the_model_reads_what_the_store_wrote(zone: str) -> None:
    store = DatabaseStore()
    with override_settings(TIME_ZONE=zone):
        with store.transaction():
            claim = store.claim(make_operation())
            assert isinstance(claim, Claim)
            expires_at = store.complete(claim, CREATED, ttl=timedelta(hours=1))
        row = Row.objects.get()
    assert abs(row.expires_at - expires_at) < timedelta(milliseconds=1)
    assert row.completed_at is not None
    assert timedelta(0) <= row.completed_at - row.created_at < timedelta(seconds=30)
