"""The consumers of processes that tests start, and where they wait to be killed: found as those of any app."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from django_idempotency.streams.sinks import registry


def wait_here(name: str) -> None:
    """Tell whoever wants to kill this process that it is there, and wait for it."""
    if os.environ.get("TEST_WAIT_AT") == name:
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        time.sleep(60)


def _define(topic: str) -> None:
    from django_idempotency.contrib.kafka.subscriptions import KafkaSubscription
    from tests.streams.sinks import Sums, handler

    class Killed(Sums, register=False):
        group = "Sums"

        def handle(self, *args: Any) -> None:
            super().handle(*args)
            wait_here("inside")

    view = Killed()
    view.topic = topic
    registry.add("tests", view)
    registry.add("tests handler", handler(topic))
    commit = KafkaSubscription.commit

    def commit_or_wait(*args: Any) -> None:
        wait_here("between")
        commit(*args)

    KafkaSubscription.commit = commit_or_wait  # type: ignore[method-assign]


if os.environ.get("TEST_TOPIC"):
    _define(os.environ["TEST_TOPIC"])
