"""The operator of the events: relays them, consumes them, kills a consumer, and has all read again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from threading import Event as Flag
from types import TracebackType

from django.conf import settings

from demo_project.announcements import CHARGE_CREATED
from demo_project.consumers import AccountTotals
from demo_project.models import AccountTotal
from django_idempotency.models import OutboxEvent
from django_idempotency.streams.consumption import Consumption
from django_idempotency.streams.offsets import Rewind
from django_idempotency.streams.relay import Relay

_PATIENCE = 60


class Queue:
    """Relay and consumer of this process, on the broker of the settings."""

    def __enter__(self) -> Queue:
        self._relay = Relay()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._relay.close()

    def relay(self) -> int:
        """Publish what waits; return how many events."""
        before = self._relay.total.published
        return self._relay.drain().published - before

    def forget_that_it_was_sent(self, user_id: str) -> None:
        """Leave the outbox as a relay does that is killed after the broker had the events, and before it says so."""
        sent = OutboxEvent.objects.filter(topic=CHARGE_CREATED, business_key=user_id)
        sent.update(status=OutboxEvent.Status.PENDING, published_at=None)

    def consume(self, *, from_start: bool = False) -> Counter[str]:
        """Consume to the end; return how many events came to what."""
        rewind = Rewind() if from_start else None
        return Consumption(AccountTotals(), rewind=rewind, until_caught_up=True, poll=0.05).run(Flag())

    def consume_until_killed(self, *, at: int) -> bool:
        """Have a process consume that is killed at an event; tell whether it was."""
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "idempotency_consume", CHARGE_CREATED]
        command += [f"--group={AccountTotals.group}", "--until-caught-up"]
        environment = {**os.environ, "DEMO_FAULTS": "1", "DEMO_KILL_CONSUMER_AT": str(at)}
        ended = subprocess.run(command, env=environment, capture_output=True, timeout=_PATIENCE, check=False)
        return ended.returncode == -signal.SIGKILL

    def total_of(self, user_id: str) -> tuple[int, int]:
        """Return number and sum of a user's charges, as the events have told them."""
        found = AccountTotal.objects.filter(user_id=user_id).values_list("charges", "amount_cents").first()
        return found or (0, 0)
