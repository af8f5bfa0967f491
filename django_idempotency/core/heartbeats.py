"""Heartbeats: one thread renews all leases of a process while their work runs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django_idempotency.core.leases import Lease, LeaseStore, LeaseTerms
from django_idempotency.exceptions import StoreUnavailable

logger = logging.getLogger("django_idempotency")


@dataclass(slots=True, eq=False)
class Beat:
    """A lease to renew: when next, and until when at most (seconds of the monotonic clock)."""

    store: LeaseStore
    lease: Lease
    terms: LeaseTerms
    due: float
    end: float


class Heartbeats:
    """Renews leases, each at its own interval, until their work ends or the limit of their terms is reached.

    The thread starts with the first lease, and ends when there is none left, closing what it holds.
    """

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._changed = threading.Condition()
        self._beats: set[Beat] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, store: LeaseStore, lease: Lease, terms: LeaseTerms) -> Iterator[None]:
        """Renew a lease until the block ends."""
        interval = terms.interval.total_seconds()
        if not interval:
            yield
            return
        now = time.monotonic()
        beat = Beat(store, lease, terms, now + interval, now + terms.heartbeat_limit.total_seconds())
        self._add(beat)
        try:
            yield
        finally:
            with self._changed:
                self._beats.discard(beat)

    def _add(self, beat: Beat) -> None:
        with self._changed:
            self._beats.add(beat)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="idempotency heartbeats", daemon=True)
                self._thread.start()
            elif beat.due <= min(other.due for other in self._beats):
                self._changed.notify()

    def _run(self) -> None:
        used: set[LeaseStore] = set()
        try:
            while beat := self._next():
                used.add(beat.store)
                self._renew(beat)
        finally:
            for store in used:
                store.close()

    def _next(self) -> Beat | None:
        """Wait for the beat that is due next; None when there has been none for a while."""
        with self._changed:
            while self._beats:
                beat = min(self._beats, key=lambda beat: beat.due)
                pause = beat.due - time.monotonic()
                if pause <= 0:
                    return beat
                self._changed.wait(pause)
            self._thread = None
            return None

    def _renew(self, beat: Beat) -> None:
        interval, lease = beat.terms.interval.total_seconds(), beat.terms.lease
        beat.due = time.monotonic() + interval
        is_held = True
        try:
            is_held = beat.store.renew(beat.lease, lease=lease)
        except StoreUnavailable:
            beat.store.close()  # so that the next beat connects anew
            logger.warning("The lease of operation %s was not renewed.", beat.lease.operation.key.prefix)
        except Exception:
            logger.exception("The lease of operation %s was not renewed.", beat.lease.operation.key.prefix)
        # The last renewal must not reach beyond the limit by more than a lease.
        if not is_held or beat.due > beat.end:
            with self._changed:
                self._beats.discard(beat)


heartbeats = Heartbeats()
