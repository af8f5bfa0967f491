"""Steps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_idempotency.core.leases import Lease
from django_idempotency.core.steps import Step, Steps
from django_idempotency.exceptions import NotDone, StepChanged
from django_idempotency.stores.memory import MemoryStore
from django_idempotency.testing import DAY, make_operation

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
steps = st.builds(
    Step,
    name=st.text(max_size=3),
    version=st.text(max_size=3),
    is_keyed=st.booleans(),
    is_done=st.booleans(),
    result=values,
)


def names(steps: Steps) -> list[str]:
    return [Step(**fields).name for fields in json.loads(steps.encode())]


@settings(max_examples=200, deadline=None, database=None)
@given(written=st.lists(steps, max_size=4, unique_by=lambda step: step.name))
def test_what_is_encoded_is_decoded(written: list[Step]) -> None:
    read = Steps.decode(Steps(written).encode())
    assert names(read) == [step.name for step in written]
    for step in written:
        assert read.find(step.name, version=step.version, is_keyed=step.is_keyed) == step


@pytest.mark.parametrize("text", [None, "", "[]"])
def test_nothing_is_no_steps(text: str | None) -> None:
    assert not Steps.decode(text)
    assert Steps([Step(name="transfer")])


def test_a_new_step_is_not_done() -> None:
    step = Steps().find("transfer", version="1", is_keyed=True)
    assert step == Step(name="transfer", version="1", is_keyed=True, is_done=False)


@pytest.mark.parametrize(
    ("version", "is_keyed"), [("2", False), ("", False), ("1", True)], ids=["newer", "no version", "with a key"]
)
@pytest.mark.parametrize("is_done", [False, True])
def test_a_step_that_has_changed_is_not_resumed(version: str, is_keyed: bool, is_done: bool) -> None:
    known = Steps([Step(name="transfer", version="1", is_done=is_done)])
    with pytest.raises(StepChanged):
        known.find("transfer", version=version, is_keyed=is_keyed)
    assert known.find("transfer", version="1", is_keyed=False).is_done is is_done


@pytest.mark.parametrize(
    ("result", "kept"), [((1, 2), [1, 2]), ({1: "a"}, {"1": "a"}), (None, None), ("é\x00", "é\x00")]
)
def test_a_result_is_at_once_what_a_retry_will_get(result: Any, kept: Any) -> None:
    done = Step(name="transfer").done(result)
    assert (done.is_done, done.result) == (True, kept)
    assert Steps.decode(Steps([done]).encode()).find("transfer", version="", is_keyed=False).result == kept


def test_a_result_is_a_copy() -> None:
    result = {"references": ["r-1"]}
    done = Step(name="transfer").done(result)
    result["references"].append("r-2")
    assert done.result == {"references": ["r-1"]}


@pytest.mark.parametrize("result", [object(), {"at": b"bytes"}, {1, 2}])
def test_a_result_that_is_no_json_is_refused(result: Any) -> None:
    with pytest.raises(TypeError):
        Step(name="transfer").done(result)


@pytest.mark.parametrize(
    ("step", "is_ambiguous"),
    [
        (Step(name="transfer"), True),
        (Step(name="transfer", is_keyed=True), False),
        (Step(name="transfer").done(1), False),
        (Step(name="transfer", is_keyed=True).done(1), False),
    ],
    ids=["begun", "begun with a key", "done", "done with a key"],
)
def test_only_a_call_that_nobody_can_tell_from_its_repetition_is_ambiguous(step: Step, is_ambiguous: bool) -> None:
    assert not Steps().is_ambiguous
    assert Steps([Step(name="mail").done(None), step]).is_ambiguous is is_ambiguous


def test_a_step_takes_the_place_of_its_name_and_can_be_taken_back() -> None:
    begun, mail = Step(name="transfer"), Step(name="mail")
    known = Steps([begun, mail])
    after = known.with_step(begun.done(1))
    assert names(after) == ["transfer", "mail"]
    assert after.find("transfer", version="", is_keyed=False).result == 1
    assert not known.find("transfer", version="", is_keyed=False).is_done
    assert names(after.without(begun)) == ["mail"]
    known.become(after)
    assert known.encode() == after.encode()


def test_what_is_known_not_to_be_done_is_forgotten() -> None:
    known = Steps([Step(name="transfer").done(1), Step(name="mail"), Step(name="refund", is_keyed=True)])
    known.forget_unfinished()
    assert names(known) == ["transfer"]


# asynchronous views


async def at_once(call: Callable[[], Any]) -> Any:
    return call()


def begin() -> Lease:
    lease = MemoryStore().reserve(make_operation(), lease=timedelta(minutes=1), ttl=DAY)
    assert isinstance(lease, Lease)
    return replace(lease, in_thread=at_once)


def test_an_asynchronous_step_is_awaited_once_and_its_result_remembered() -> None:
    lease, keys = begin(), []

    async def call(key: str) -> list[str]:
        keys.append(key)
        return keys

    async def view() -> list[Any]:
        return [await lease.astep("transfer", call, provider="bank") for _ in range(2)]

    key = lease.derive_key("bank", "transfer")
    assert asyncio.run(view()) == [[key], [key]]
    assert keys == [key]


@pytest.mark.parametrize("error", [LookupError, NotDone, asyncio.CancelledError])
def test_an_asynchronous_call_that_broke_off_is_ambiguous(error: type[BaseException]) -> None:
    lease = begin()

    async def call() -> None:
        raise error

    async def view() -> None:
        with pytest.raises(error):
            await lease.astep("transfer", call)

    asyncio.run(view())
    assert lease.steps.is_ambiguous is (error is not NotDone)
    assert bool(lease.steps) is (error is not NotDone)


def test_what_is_committed_with_its_result_is_run_once_or_again_from_the_start() -> None:
    lease, runs = begin(), []

    def write() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise LookupError
        return len(runs)

    async def view() -> list[Any]:
        with pytest.raises(LookupError):
            await lease.acommit("write", write)
        assert not lease.steps
        return [await lease.acommit("write", write) for _ in range(2)]

    assert asyncio.run(view()) == [2, 2]
    assert len(runs) == 2


def test_what_is_asynchronous_is_refused_in_a_synchronous_view() -> None:
    lease = replace(begin(), in_thread=None)

    async def call() -> None: ...

    for attempt in (lease.astep("transfer", call), lease.acommit("write", int)):
        with pytest.raises(RuntimeError, match="asynchronous"):
            asyncio.run(never_needed(attempt))


async def never_needed(call: Awaitable[Any]) -> None:
    await call
