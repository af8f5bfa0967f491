"""One machine that does to a store whatever can be done to it, and compares what it tells with the reference."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, invariant, multiple, precondition, rule

from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import LeaseLost, OperationInProgress
from django_idempotency.stores.sightings import Sighting, find
from django_idempotency.testing import DAY
from tests.stores.choices import OPERATIONS, PAST, STEPS, endings, names, outcomes, retentions, steps_names
from tests.stores.reference import Entry, Marks, Reference, Verdict
from tests.stores.subjects import Crash, Ending, Subject, claimed, end


class StoreMachine(RuleBasedStateMachine):
    """Leases stay in their bundle after they were lost: what their holders do then is what zombies do."""

    leases = Bundle("leases")
    sights = Bundle("sights")
    sightings = Bundle("sightings")

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        subject.clean()
        self.subject, self.store = subject, subject.store
        self.model = Reference()
        self.touched: list[Operation] = []
        self.marks = Marks()
        self.effects = 0
        subject.runs += 1

    @rule(name=names, outcome=outcomes, ttl=retentions, ending=endings)
    def transact(self, name: str, outcome: Outcome, ttl: timedelta, ending: Ending) -> None:
        operation = self.touch(name)
        if self.is_turned_away(operation):
            return
        expected, effect = self.model.claim(operation), self.new_effect()

        def run(claim: Any) -> None:
            self.subject.pay(effect)
            self.store.complete(claim, outcome, ttl=ttl, last=ending == "commit")

        assert claimed(self.store, operation, run, ending) == expected
        if expected is None and ending == "commit":
            self.model.keep(operation, outcome, effect, has_expired=ttl == PAST)
        if not isinstance(expected, type):
            self.marks.clear(operation)
        elif expected is not OperationInProgress:
            self.marks.take_back(operation)

    @rule(target=leases, name=names)
    def begin(self, name: str) -> Lease | MultipleResults[Lease]:
        operation = self.touch(name)
        if self.is_turned_away(operation):
            return multiple()
        found, expected = self.reserve(operation), self.model.live(operation)
        if isinstance(found, Held):
            assert Entry.seen(found) == expected
            if found.record:
                self.marks.clear(operation)
            elif self.model.claim(operation) is not OperationInProgress:
                self.marks.take_back(operation)
            return multiple()
        assert expected is None
        assert (found.attempt, found.fingerprint, found.steps.encode()) == (1, operation.fingerprint, "[]")
        self.model.reserve(found)
        return found

    @rule(target=sights, name=names)
    def look(self, name: str) -> tuple[str, Held] | MultipleResults[tuple[str, Held]]:
        operation = self.touch(name)
        if not self.model.live(operation):
            return multiple()
        held = self.reserve(operation)
        assert isinstance(held, Held)
        return name, held

    @rule(target=leases, sight=sights, is_lapsed=st.booleans())
    def take_over(self, sight: tuple[str, Held], is_lapsed: bool) -> Lease | MultipleResults[Lease]:
        name, held = sight
        operation = self.touch(name)
        if is_lapsed:
            self.lapse_if_held(operation)
        lease = self.store.take_over(operation, held, lease=DAY)
        assert bool(lease) == self.model.may_take_over(operation, Entry.seen(held))
        if lease is None:
            return multiple()
        entry = self.model.take_over(lease)
        told = (lease.attempt, lease.fingerprint, lease.steps.encode())
        assert told == (entry.attempt, entry.fingerprint, entry.steps)
        return lease

    @rule(target=leases, lease=leases, steps_name=st.none() | steps_names)
    def overtake(self, lease: Lease, steps_name: str | None) -> Lease | MultipleResults[Lease]:
        """Make a zombie, who may have gone on meanwhile."""
        sight = self.look(self.name_of(lease))
        if isinstance(sight, MultipleResults):
            return sight
        if steps_name:
            self.write_steps(lease, steps_name)
        return self.take_over(sight, is_lapsed=True)

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        self.touch_lease(lease)
        assert self.store.renew(lease, lease=DAY) == self.model.renew(lease)

    @rule(lease=leases, steps_name=steps_names)
    def write_steps(self, lease: Lease, steps_name: str) -> None:
        self.touch_lease(lease)
        steps, is_held = STEPS[steps_name], self.model.write_steps(lease, STEPS[steps_name].encode())
        assert self.is_done(lambda: self.store.write_steps(lease, steps)) == is_held
        if is_held:
            lease.steps.become(steps)

    @precondition(lambda self: self.subject.has_effects)
    @rule(lease=leases, steps_name=steps_names, ending=endings)
    def write_steps_with_an_effect(self, lease: Lease, steps_name: str, ending: Ending) -> None:
        self.touch_lease(lease)
        steps, effect = STEPS[steps_name], self.new_effect()

        def commit() -> None:
            with suppress(Crash), self.store.transaction() as transaction:
                self.subject.pay(effect)
                self.store.write_steps(lease, steps, in_transaction=True)
                end(transaction, ending)

        assert self.is_done(commit) == self.model.holds(lease)
        if ending == "commit" and self.model.write_steps(lease, steps.encode()):
            self.model.effects.append(effect)
            lease.steps.become(steps)

    @rule(lease=leases, outcome=outcomes, ttl=retentions, ending=endings)
    def complete(self, lease: Lease, outcome: Outcome, ttl: timedelta, ending: Ending) -> None:
        self.touch_lease(lease)
        is_held, effect = self.model.holds(lease), self.new_effect()

        def complete() -> None:
            with suppress(Crash), self.store.transaction() as transaction:
                self.subject.pay(effect)
                self.store.complete(lease, outcome, ttl=ttl)
                end(transaction, ending)

        is_done = self.is_done(complete)
        assert is_done == is_held or (is_done and ending != "commit")  # some tell only at the end who has lost
        if is_held and ending == "commit":
            self.model.complete(lease, outcome, effect, has_expired=ttl == PAST)
            self.marks.clear(lease.operation)

    @rule(lease=leases, unknown=st.booleans(), relies=st.booleans())
    def release(self, lease: Lease, unknown: bool, relies: bool) -> None:
        self.touch_lease(lease)
        if relies:
            lease.derive_key("bank")
        self.store.release(lease, unknown=unknown)
        self.model.release(lease, unknown=unknown)
        self.marks.clear(lease.operation)

    @rule(lease=leases)
    def lapse(self, lease: Lease) -> None:
        self.touch_lease(lease)
        self.lapse_if_held(lease.operation)

    @precondition(lambda self: self.subject.has_effects)
    @rule(target=sightings, name=names)
    def see(self, name: str) -> tuple[str, Sighting] | MultipleResults[tuple[str, Sighting]]:
        """Let an operator look."""
        operation = self.touch(name)
        if operation.key.digest not in self.model.entries:
            return multiple()
        return name, find("default", digest=operation.key.digest.hex())

    @precondition(lambda self: self.subject.has_effects)
    @rule(sighting=sightings, verdict=st.sampled_from(["forget", "done", "not done"]), force=st.booleans())
    def resolve(self, sighting: tuple[str, Sighting], verdict: Verdict, force: bool) -> None:
        """Let an operator decide, perhaps after something has changed."""
        name, seen = sighting
        operation = self.touch(name)
        may_change = self.model.may_resolve(operation, self.subject.entry_of(seen), force=force)
        assert self.subject.resolve(seen, verdict, force=force) == may_change
        if may_change:
            self.model.resolve(operation, verdict, self.subject.owner(operation))
            self.marks.clear(operation)

    @rule(name=names)
    def expire(self, name: str) -> None:
        operation = self.touch(name)
        self.subject.expire(operation)
        self.model.expire(operation)
        self.marks.clear(operation)

    @rule(batch_size=st.integers(1, 3))
    def purge(self, batch_size: int) -> None:
        self.touched = list(OPERATIONS.values())
        expected = self.model.purge()
        assert self.store.count_expired() == expected
        assert sum(self.store.purge(batch_size=batch_size)) == expected
        assert self.store.count_expired() == 0

    @precondition(lambda self: self.subject.has_marks)
    @rule()
    def flush(self) -> None:
        self.subject.flush()
        self.marks = Marks()

    @invariant()
    def everybody_is_told_the_truth(self) -> None:
        self.subject.steps += 1
        if self.subject.forgets_by_itself:
            self.model.purge()
        for operation in self.touched:
            assert claimed(self.subject.witness, operation) == self.model.claim(operation)
            if entry := self.model.live(operation):
                held = self.subject.witness.reserve(operation, lease=DAY, ttl=DAY)
                assert isinstance(held, Held)
                assert Entry.seen(held) == entry
        if self.subject.has_effects:
            assert self.subject.effects() == sorted(self.model.effects)

    def teardown(self) -> None:
        self.touched = list(OPERATIONS.values())
        self.everybody_is_told_the_truth()

    def reserve(self, operation: Operation) -> Lease | Held:
        """Ask for a lease that does not end by itself."""
        return self.store.reserve(operation, lease=DAY, ttl=DAY)

    def lapse_if_held(self, operation: Operation) -> None:
        """Let the deadline of a lease pass, if there is one."""
        entry = self.model.live(operation)
        if entry and entry.status == "in_progress":
            self.subject.lapse(operation)
            self.model.lapse(operation)

    def is_done(self, change: Callable[[], None]) -> bool:
        """Change something, and tell whether the lease was held."""
        try:
            change()
        except LeaseLost:
            return False
        return True

    def is_turned_away(self, operation: Operation) -> bool:
        """Recall as every attempt does first; what is told of an outcome must be true, as must be what is in flight."""
        try:
            record = self.store.recall(operation)
        except OperationInProgress:
            assert self.marks.may_be_there(operation), "a mark was not taken back"
            self.flush()  # it is for a moment
            return True
        if record:
            assert Entry.seen(record) == self.model.live(operation)
        else:
            self.marks.leave(operation)
        return False

    def touch(self, name: str) -> Operation:
        """Let the invariants look at this key with either request."""
        self.touched = [OPERATIONS[name[:-1] + content] for content in "xy"]
        return OPERATIONS[name]

    def touch_lease(self, lease: Lease) -> None:
        """Let the invariants look at the key of a lease."""
        self.touch(self.name_of(lease))

    def name_of(self, lease: Lease) -> str:
        """Return the name of the operation under a lease."""
        return next(name for name, operation in OPERATIONS.items() if operation == lease.operation)

    def new_effect(self) -> str:
        """Return the name of an effect that may come."""
        self.effects += 1
        return f"{self.effects:04}"
