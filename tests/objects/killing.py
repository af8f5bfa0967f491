"""``python -m tests.objects.killing``: puts content in children that it kills by SIGKILL while they write.

Reads one JSON object from its standard input (``storage``: OPTIONS, ``folder``, ``kills``), and prints another one.
What it forks has no threads and no connections, which is why it is a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

import django
from django.conf import settings
from django.core.files.base import ContentFile

SIZE = 500_000
PATIENCE = 30.0


def main() -> None:
    """Do as told."""
    settings.configure()
    django.setup()
    from django_idempotency.objects import ContentAddressedStorage

    told = json.load(sys.stdin)
    storage, folder, chance = ContentAddressedStorage(**told["storage"]), Path(told["folder"]), random.Random(0)
    seen: set[Path] = set()
    corrupt: list[str] = []
    for _ in range(told["kills"]):
        child = os.fork()
        if not child:
            for number in count():
                storage.put(ContentFile(random.Random(f"{os.getpid()} {number}").randbytes(SIZE)))
        wait_until_it_writes(folder, len(seen))
        time.sleep(chance.uniform(0, 0.02))  # where it is killed is up to chance, not whether
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for path in objects(folder) - seen:
            seen.add(path)
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
                corrupt.append(path.name)
    print(json.dumps({"kills": told["kills"], "objects": len(seen), "corrupt": corrupt}))


def objects(folder: Path) -> set[Path]:
    """Return what is seen as objects."""
    return {path for path in folder.rglob("*") if path.is_file() and path.parent.name != "tmp"}


def wait_until_it_writes(folder: Path, known: int) -> None:
    """Wait until the child has stored something."""
    deadline = time.monotonic() + PATIENCE
    while len(objects(folder)) <= known:
        assert time.monotonic() < deadline


if __name__ == "__main__":
    main()
