"""Duplicates of events: what a queue delivers again, and what somebody reads again from the start."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice

from demo_project.results import Check, Exchange, Facts
from demo_project.stages import Stage

_CHARGES, _LAST = 12, 3


def queue_replay(stage: Stage) -> Facts:
    """The relay sends events twice, a consumer is killed in the middle of a batch, and all is read from the start."""
    # It needs Django's models, which are not there for those who only want the names of the scenarios.
    from demo_project.event_queues import Queue

    payments = [stage.payment(amount_cents=100 + number) for number in range(_CHARGES)]
    for payment in payments[:-_LAST]:
        stage.client.insist(payment)
    expected = {number: (number, sum(payment.amount_cents for payment in payments[:number])) for number in (9, 12)}
    with Queue() as queue:
        queue.relay()
        queue.forget_that_it_was_sent(stage.user_id)
        sent_again = queue.relay()
        killed = queue.consume_until_killed(at=5)
        first = queue.consume()
        total = queue.total_of(stage.user_id)
        for payment in payments[-_LAST:]:
            stage.client.insist(payment)
        queue.relay()
        queue.consume()
        replay = queue.consume(from_start=True)
    stage.client.exchanges += _repeated(
        stage.client.exchanges,
        min(replay["replayed"], _CHARGES + sent_again),  # the rest is of other scenarios
    )
    return stage.facts(
        Check(name="events that the relay sent again", expected=_CHARGES - _LAST, measured=sent_again),
        Check(name="the consumer was killed", expected=True, measured=killed),
        Check(name="events that were known when they came again", expected=True, measured=first["replayed"] >= 9),
        Check(name="total after the kill", expected=expected[9], measured=total),
        Check(name="events that ran again after the rewind", expected=0, measured=replay["executed"]),
        Check(name="total after the rewind", expected=expected[12], measured=queue.total_of(stage.user_id)),
        rows=_CHARGES,
    )


def _repeated(exchanges: list[Exchange], count: int) -> list[Exchange]:
    """Tell of each event that came again as if its request had."""
    answered = [exchange for exchange in exchanges if exchange.is_success]
    return [replace(exchange, is_replay=True) for exchange in islice(cycle(answered), count)]
