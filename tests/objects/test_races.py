"""Many processes put the same content at once, and some die while they do.

``python -m pytest -m campaign tests/objects/test_races.py -s`` kills 200 of them; the default run kills ten.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from django_idempotency.objects.collection import Collector
from tests.objects.conftest import Files, Place

ROOT = Path(__file__).parents[2]
CONTENTS, PROCESSES, THREADS, PUTS = 20, 4, 2, 150
HOUR = timedelta(hours=1)
PUTTING = [sys.executable, "-m", "tests.objects.racing"]


@contextmanager
def putting(place: Place, **told: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process that is ready to put."""
    pipe = subprocess.PIPE
    with subprocess.Popen(PUTTING, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdin
            assert process.stdout
            options = {"storage": place.entry["OPTIONS"], "contents": CONTENTS, "threads": THREADS, **told}
            process.stdin.write(json.dumps(options) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def corrupt(place: Place) -> list[str]:
    """Return the names that are seen as objects and are not what they promise."""
    objects = [name for name in place.names() if not name.startswith(("tmp/", "touched/", "quarantine/"))]
    return [name for name in objects if hashlib.sha256(place.read(name)).hexdigest() != name.rpartition("/")[2]]


def test_600_racing_puts_of_20_contents_store_20_objects(place: Place) -> None:
    with ExitStack() as stack:
        started = [stack.enter_context(putting(place, puts=PUTS)) for _ in range(PROCESSES)]
        for process in started:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        created = sum((Counter(json.loads(process.communicate()[0])) for process in started), Counter())
    names = {name for name in place.names() if not name.startswith("touched/")}
    assert (len(names), len(created), set(created.values())) == (CONTENTS, CONTENTS, {1})
    assert corrupt(place) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.campaign)])
def test_a_kill_while_writing_leaves_no_part_of_an_object(kills: int, tmp_path: Path) -> None:
    place = Files(tmp_path)
    told = json.dumps({"storage": place.entry["OPTIONS"], "folder": str(tmp_path), "kills": kills})
    command = [sys.executable, "-m", "tests.objects.killing"]
    ended = subprocess.run(command, cwd=ROOT, input=told, stdout=subprocess.PIPE, text=True, check=True, timeout=250)
    facts = json.loads(ended.stdout)
    print(facts)
    assert (facts["kills"], facts["corrupt"]) == (kills, [])
    leftovers = {name for name in place.names() if name.startswith("tmp/")}
    assert len(leftovers) > kills / 4, "hardly a kill has hit a write"
    assert facts["objects"] == len(place.names() - leftovers) > kills
    collector = Collector(storage=place.storage(), grace=HOUR, second=HOUR, actor="user:alice")
    linked = {name for name in leftovers if (tmp_path / name).stat().st_nlink > 1}
    assert collector.run().leftovers == len(linked)
    for name in leftovers - linked:
        place.age(name)
    assert collector.run().leftovers == len(leftovers - linked)
    assert len(place.names()) == facts["objects"]
    assert corrupt(place) == []
