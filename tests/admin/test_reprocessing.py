"""Watermarks and versions of projections can be read in the admin, and only that."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_idempotency.models import Generation, WatermarkRow
from django_idempotency.reprocessing import Watermark

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def desk(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def watermark(transactional_db: None) -> WatermarkRow:
    with Watermark(HOSTILE, type=str).window(upto="position 7"):
        pass
    return WatermarkRow.objects.get()


@pytest.fixture
def generation(transactional_db: None) -> Generation:
    facts = {"table": "shop_totals__v3", "state": "live", "created_at": timezone.now()}
    return Generation.objects.create(projection=HOSTILE, version=3, **facts)


def pages(name: str, pk: int) -> tuple[str, str]:
    return reverse(f"admin:idempotency_{name}_changelist"), reverse(f"admin:idempotency_{name}_change", args=[pk])


def test_watermarks_are_shown_as_text(desk: Client, watermark: WatermarkRow) -> None:
    for address in pages("watermarkrow", watermark.pk):
        page = desk.get(address).content.decode()
        assert "position 7" in page
        assert "&lt;script&gt;" in page
        assert HOSTILE not in page


def test_versions_are_shown_as_text_and_narrowed_down_by_state(desk: Client, generation: Generation) -> None:
    for address in pages("generation", generation.pk):
        page = desk.get(address).content.decode()
        assert "shop_totals__v3" in page
        assert HOSTILE not in page
    listed, _ = pages("generation", generation.pk)
    for state in Generation.State.values:
        page = desk.get(listed, {"state__exact": state}).content.decode()
        assert ("shop_totals__v3" in page) is (state == "live")


def test_they_are_found_by_their_whole_name(desk: Client, watermark: WatermarkRow, generation: Generation) -> None:
    for name, row in (("watermarkrow", watermark), ("generation", generation)):
        listed, _ = pages(name, row.pk)
        for term, is_found in ((HOSTILE, True), ("alert", False)):
            page = desk.get(listed, {"q": term}).content.decode()
            assert (f"/{name}/{row.pk}/change/" in page) is is_found


def test_nobody_can_add_change_or_delete_them(desk: Client, watermark: WatermarkRow, generation: Generation) -> None:
    for name, row in (("watermarkrow", watermark), ("generation", generation)):
        assert desk.get(reverse(f"admin:idempotency_{name}_add")).status_code == 403
        assert desk.get(reverse(f"admin:idempotency_{name}_delete", args=[row.pk])).status_code == 403
        assert desk.post(pages(name, row.pk)[1], {"position": "[9]", "state": "dropped"}).status_code == 403
    watermark.refresh_from_db()
    generation.refresh_from_db()
    assert (watermark.position, generation.state) == ('["position 7"]', "live")
