"""``idempotency_blobs`` verifies and collects, says what it did, and exits accordingly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.test import override_settings

from tests.models import Document
from tests.objects.conftest import Files

pytestmark = pytest.mark.django_db(transaction=True)

BACKEND = "django_idempotency.objects.ContentAddressedStorage"
WRONG = {"algorithm": "md5"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path / "objects")
    with override_settings(STORAGES={"blobs": made.entry}):
        yield made


def blobs(*arguments: str) -> Any:
    output = StringIO()
    call_command("idempotency_blobs", *arguments, stdout=output, stderr=StringIO())
    return json.loads(output.getvalue()) if "--json" in arguments else output.getvalue()


def put(text: bytes) -> str:
    return storages["blobs"].put(ContentFile(text)).name  # type: ignore[attr-defined]


def test_sound_objects_are_said_to_be_so(place: Files) -> None:
    put(b"sound")
    assert blobs("verify") == "1 objects read, 5 bytes.\n"
    assert blobs("verify", "--sample", "100%", "--json") == {
        "seen": 1,
        "size": 5,
        "corrupt": [],
        "missing": [],
        "sound": True,
    }


def test_what_is_corrupt_or_missing_is_named_and_exits_with_3(place: Files) -> None:
    name, gone = put(b"sound"), f"00/00/{'0' * 64}"
    Document.objects.create(file=gone)
    place.write(name, b"rotten")
    output = StringIO()
    with pytest.raises(CommandError, match="1 corrupt, 1 missing") as raised:
        call_command("idempotency_blobs", "verify", stdout=output)
    assert raised.value.returncode == 3
    assert output.getvalue().splitlines()[1:] == [f"corrupt: {name}", f"missing: {gone}"]
    assert place.names() == {f"quarantine/corrupt/{name}"}


def test_old_objects_are_collected_and_later_purged(place: Files) -> None:
    name, kept = put(b"unwanted"), put(b"wanted")
    Document.objects.create(file=kept)
    for each in (name, kept):
        place.age(each)
    assert "1 would be set aside" in blobs("collect", "--dry-run")
    assert place.names() == {name, kept}
    assert blobs("collect", "--grace", "48h", "--json") == {
        "seen": 2,
        "young": 0,
        "referenced": 1,
        "set_aside": 1,
        "restored": 0,
        "purged": 0,
        "leftovers": 0,
        "size": 8,
        "dry_run": False,
    }
    place.age(f"quarantine/collected/{name}")
    assert "0 purged" in blobs("collect", "--purge-after", "60d")
    assert "1 purged" in blobs("collect")
    assert place.names() == {kept}


def test_another_collector_is_not_disturbed(place: Files) -> None:
    with storages["blobs"].writer.exclusive(), pytest.raises(CommandError) as raised:  # type: ignore[attr-defined]
        blobs("collect")
    assert raised.value.returncode == 4


def test_progress_is_told_when_it_is_asked_for(place: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    put(b"sound")
    ticks = iter(range(100))
    module = "django_idempotency.management.commands.idempotency_blobs"
    monkeypatch.setattr(f"{module}.time.monotonic", lambda: next(ticks))
    told = StringIO()
    call_command("idempotency_blobs", "verify", "--verbosity", "2", stdout=StringIO(), stderr=told)
    assert told.getvalue() == "1 objects, 0.0 MiB\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["collect", "--grace", "0"],
        ["collect", "--grace", "soon"],
        ["collect", "--purge-after", "1w"],
        ["verify", "--sample", "0"],
        ["verify", "--sample", "200%"],
        ["verify", "--sample", "some"],
        ["verify", "--storage", "default"],
        [],
    ],
)
def test_arguments_that_make_no_sense_are_refused(place: Files, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        blobs(*arguments)


def test_one_of_several_storages_has_to_be_named(place: Files) -> None:
    entries = {"blobs": place.entry, "more": place.entry, "wrong": {"BACKEND": BACKEND, "OPTIONS": WRONG}}
    with override_settings(STORAGES=entries):
        with pytest.raises(CommandError, match="blobs, more, wrong"):
            blobs("verify")
        with pytest.raises(CommandError, match="cannot be made: algorithm"):
            blobs("verify", "--storage", "wrong")
        assert blobs("verify", "--storage", "more") == "0 objects read, 0 bytes.\n"


def test_what_cannot_be_collected_says_so() -> None:
    inner = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    entry = {"BACKEND": BACKEND, "OPTIONS": {"storage": inner}}
    with override_settings(STORAGES={"blobs": entry}), pytest.raises(CommandError, match="not collected") as raised:
        blobs("collect")
    assert raised.value.returncode == 1
