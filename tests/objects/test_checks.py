"""Checks of the storages in STORAGES."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from django_idempotency.objects.checks import check_objects

BACKEND = "django_idempotency.objects.ContentAddressedStorage"


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, []),
        ({"algorithm": "md5"}, ["idempotency.E070"]),
        ({"fan_out": (2, 2)}, ["idempotency.E070"]),
        ({"storage": "nowhere"}, ["idempotency.E070"]),
        ({"storage": {"BACKEND": "no.such.Storage"}}, ["idempotency.E070"]),
        ({"storage": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}, ["idempotency.W071"]),
    ],
)
def test_a_storage_is_checked(options: dict[str, Any], ids: list[str]) -> None:
    with override_settings(STORAGES={"blobs": {"BACKEND": BACKEND, "OPTIONS": options}}):
        assert [message.id for message in check_objects()] == ids


def test_other_storages_are_none_of_our_business() -> None:
    entry = {"BACKEND": "no.such.Storage", "OPTIONS": {"algorithm": "md5"}}
    with override_settings(STORAGES={"default": entry}):
        assert check_objects() == []
