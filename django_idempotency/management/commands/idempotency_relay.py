"""Publishes what waits in the outbox."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from django_idempotency.management.stopping import stopping
from django_idempotency.streams.brokers import get_broker
from django_idempotency.streams.errors import BrokerUnavailable
from django_idempotency.streams.relay import Relay, Relayed

_UNAVAILABLE = 5


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT; the batch that it is at is ended first."""

    help = (
        "Publishes the events of the outbox in the order of each business key, until it is told to stop. Any number "
        "of relays may run on PostgreSQL, one on SQLite. Exits with 5 if --once finds that the broker does not answer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--once", action="store_true", help="End when nothing waits any more.")
        parser.add_argument("--batch", type=int, default=500, help="Events at a time (500).")
        parser.add_argument("--topic", action="append", default=[], help="Only this topic; repeatable.")
        parser.add_argument("--poll", type=float, default=0.2, help="Seconds to wait where nothing waits (0.2).")
        parser.add_argument("--broker", default="default", help="Alias in IDEMPOTENCY_BROKERS.")
        parser.add_argument("--database", help="Alias of the database (default: as the routers say).")
        parser.add_argument("--json", action="store_true", help="Print one JSON object at the end.")

    def handle(self, *args: Any, once: bool, batch: int, poll: float, broker: str, **options: Any) -> None:
        """Publish, and say at the end what was done."""
        if batch < 1 or poll <= 0:
            raise CommandError("--batch must be at least 1, --poll positive.")
        try:
            get_broker(broker)
        except (ImproperlyConfigured, TypeError) as error:
            raise CommandError(str(error)) from error
        relay = Relay(broker, using=options["database"], batch=batch, topics=options["topic"], poll=poll)
        if once:
            self._drain(relay)
        else:
            with stopping() as stop:
                relay.run(stop, on_batch=self._progress(relay, options))
        self._report(relay.total, options)

    def _drain(self, relay: Relay) -> None:
        try:
            relay.drain()
        except BrokerUnavailable as error:
            raise CommandError(f"{error} {relay.total.published} were published.", returncode=_UNAVAILABLE) from error
        finally:
            relay.close()

    def _progress(self, relay: Relay, options: dict[str, Any]) -> Any:
        """Return what prints the numbers so far, no more than once a second."""
        started = shown = time.monotonic()

        def show(done: Relayed) -> None:
            nonlocal shown
            if options["verbosity"] and done.published and (now := time.monotonic()) - shown >= 1:
                shown = now
                rate = relay.total.published / (now - started)
                self.stderr.write(
                    f"{relay.total.published} published, {relay.total.parked} parked, {rate:.0f} a second"
                )

        return show

    def _report(self, total: Relayed, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(asdict(total)))
        else:
            self.stdout.write(f"{total.published} published, {total.parked} parked.")
