"""A collector in one thread, uploads of old content in others: nothing that a row refers to is ever gone.

``python -m pytest -m campaign tests/objects/test_collector_race.py -s`` plays 500 rounds in each place, the default run
a few.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connections

from django_idempotency.objects import ContentAddressedStorage
from django_idempotency.objects.collection import Collected, Collector
from tests.models import Document
from tests.objects.conftest import Place

CONTENTS, UPLOADERS = 6, 2
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("rounds", [8, pytest.param(500, marks=[pytest.mark.campaign, pytest.mark.timeout(1500)])])
def test_no_content_that_a_row_refers_to_is_ever_gone(
    storage: ContentAddressedStorage, place: Place, rounds: int
) -> None:
    chance = random.Random(0)
    texts = [b"content %d" % number for number in range(CONTENTS)]
    names = {text: storage.put(ContentFile(text)).name for text in texts}
    counts = {"collected": 0, "uploads": 0, "found there": 0}
    with ThreadPoolExecutor(UPLOADERS + 1) as pool:
        for _ in range(rounds):
            Document.objects.all().delete()
            _let_all_be_old(place, set(names.values()))
            together = Barrier(UPLOADERS + 1)
            collected = Event()
            collection = pool.submit(_collect, together, collected)
            uploads = [pool.submit(_upload, together, collected, chance.sample(texts, 3)) for _ in range(UPLOADERS)]
            for text, created in (put for upload in uploads for put in upload.result()):
                counts["uploads"] += 1
                counts["found there"] += not created
                assert storage.verify(names[text])
            counts["collected"] += collection.result().set_aside
            for name in Document.objects.values_list("file", flat=True):
                assert name in place.names()  # and now where it belongs
    print(counts)
    assert counts["collected"] > 0
    assert counts["found there"] > 0


def _let_all_be_old(place: Place, names: set[str]) -> None:
    for name in place.names():
        if name.removeprefix("touched/") in names:
            place.age(name)


def _collect(together: Barrier, collected: Event) -> Collected:
    storage = storages["blobs"]
    assert isinstance(storage, ContentAddressedStorage)
    together.wait(30)
    try:
        return Collector(storage=storage, grace=HOUR, second=HOUR, actor="user:alice").run()
    finally:
        collected.set()
        connections.close_all()


def _upload(together: Barrier, collected: Event, texts: list[bytes]) -> list[tuple[bytes, bool]]:
    """Put, and let a row refer to it: the first at once, the others once the collector has looked for rows in vain."""
    together.wait(30)
    done = []
    try:
        for text in texts:
            document = Document()
            document.file.save("a.txt", ContentFile(text), save=text is texts[0])
            assert document.file.blob
            assert document.file.storage.verify(document.file.name)  # while the collector is at work
            done.append((document, text, document.file.blob.created))
        assert collected.wait(60)
        for document, _, _ in done:
            document.save()
        return [(text, created) for _, text, created in done]
    finally:
        connections.close_all()
