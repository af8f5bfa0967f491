"""Handles the events of a topic for a group."""

from __future__ import annotations

import json
import re
import time
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from django_idempotency.management.stopping import stopping
from django_idempotency.streams.batches import Counts
from django_idempotency.streams.brokers import get_broker
from django_idempotency.streams.consumption import Consumption
from django_idempotency.streams.errors import PoisonEvent
from django_idempotency.streams.figures import lags
from django_idempotency.streams.offsets import Rewind
from django_idempotency.streams.sinks import Sink, registry

_MISSING, _POISON = 3, 4
_OFFSETS = re.compile(r"\d+=\d+(,\d+=\d+)*")


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT; the batch that it is at is ended first."""

    help = (
        "Handles the events of a topic for a group, each once, until it is told to stop. What --from reads again is "
        "not handled again. Exits with 3 if there is no such consumer, 4 if --poison stop has met an event that cannot "
        "be handled."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("topic")
        parser.add_argument("--group", required=True, help="The group of a @consumer or a Projection.")
        parser.add_argument("--from", dest="rewind", help="earliest, time:2026-01-31T00:00Z or offset:0=100,1=250.")
        parser.add_argument("--max-batch", type=int, default=500, help="Events a transaction (500).")
        parser.add_argument("--until-caught-up", action="store_true", help="End where the topic ends now.")
        parser.add_argument("--poison", choices=("park", "stop"), default="park", help="What cannot be handled.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object at the end.")

    def handle(self, *args: Any, topic: str, group: str, rewind: str | None, **options: Any) -> None:
        """Handle events, and say at the end what was done."""
        sink = _find(topic, group)
        if options["max_batch"] < 1:
            raise CommandError("--max-batch must be at least 1.")
        consumption = Consumption(
            sink,
            max_batch=options["max_batch"],
            poison=options["poison"],
            rewind=_rewind(rewind) if rewind else None,
            until_caught_up=options["until_caught_up"],
        )
        try:
            with stopping() as stop:
                consumption.run(stop, on_batch=self._progress(consumption, sink, options))
        except PoisonEvent as error:
            raise CommandError(str(error), returncode=_POISON) from error
        finally:
            self._report(sink, consumption.total, options)

    def _progress(self, consumption: Consumption, sink: Sink, options: dict[str, Any]) -> Any:
        """Return what prints the numbers so far, no more than once a second."""
        started = shown = time.monotonic()

        def show(counts: Counts) -> None:
            nonlocal shown
            if options["verbosity"] and (now := time.monotonic()) - shown >= 1:
                shown = now
                rate = consumption.total.total() / (now - started)
                self.stderr.write(f"{_said(consumption.total)}, {rate:.0f} a second, lag {_lag(sink)}")

        return show

    def _report(self, sink: Sink, total: Counts, options: dict[str, Any]) -> None:
        if options["json"]:
            facts = {"topic": sink.topic, "group": sink.group, "counts": dict(total), "lag": _lag(sink)}
            self.stdout.write(json.dumps(facts))
        else:
            self.stdout.write(f"{sink.topic}, {sink.group}: {_said(total)}; lag {_lag(sink)}.")


def _find(topic: str, group: str) -> Sink:
    sink = registry.find(topic, group)
    if sink is None:
        known = ", ".join(sorted(sink.name for sink in registry.all())) or "none"
        raise CommandError(
            f"There is no consumer {topic}/{group}; there are: {known}. Apps have them in their consumers.py.",
            returncode=_MISSING,
        )
    try:
        get_broker(sink.broker)
    except (ImproperlyConfigured, TypeError) as error:
        raise CommandError(str(error)) from error
    return sink


def _rewind(text: str) -> Rewind:
    kind, _, value = text.partition(":")
    if text == "earliest":
        return Rewind()
    if kind == "time" and (at := _moment(value)):
        return Rewind(at=at)
    if kind == "offset" and _OFFSETS.fullmatch(value):
        pairs = (pair.split("=") for pair in value.split(","))
        return Rewind(offsets={int(partition): int(offset) for partition, offset in pairs})
    raise CommandError("--from is earliest, time:2026-01-31T00:00Z or offset:0=100,1=250.")


def _moment(text: str) -> datetime | None:
    try:
        at = parse_datetime(text)
    except ValueError:
        return None
    return timezone.make_aware(at) if at and timezone.is_naive(at) else at


def _said(counts: Counts) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "nothing"


def _lag(sink: Sink) -> int:
    found = lags(sink.alias)
    return sum(lag.lag or 0 for lag in found if (lag.topic, lag.group) == (sink.topic, sink.group))
