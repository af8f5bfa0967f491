"""``python -m tests.objects.racing``: a process that puts, for tests that need real ones.

Reads one JSON object from its standard input: ``storage`` (OPTIONS), ``contents`` (how many), ``puts`` and ``threads``.
Says ``ready``, waits for a line, puts, and prints how many of them were created, by name.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
from django.conf import settings
from django.core.files.base import ContentFile

SIZE = 20_000


def content(number: int) -> bytes:
    """Return one of the contents that all processes put."""
    return random.Random(number).randbytes(SIZE)


def main() -> None:
    """Do as told."""
    settings.configure()
    django.setup()
    from django_idempotency.objects import ContentAddressedStorage

    told: dict[str, Any] = json.loads(sys.stdin.readline())
    storage = ContentAddressedStorage(**told["storage"])
    contents = [content(number) for number in range(told["contents"])]

    def put(number: int) -> tuple[str, bool]:
        blob = storage.put(ContentFile(contents[number % len(contents)]))
        return blob.name, blob.created

    with ThreadPoolExecutor(told["threads"]) as pool:
        print("ready", flush=True)
        sys.stdin.readline()
        results = list(pool.map(put, range(told["puts"])))
    print(json.dumps(Counter(name for name, created in results if created)), flush=True)


if __name__ == "__main__":
    main()
