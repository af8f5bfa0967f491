"""What windows tell of their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_idempotency.signals import batch_answered, operation_answered

if TYPE_CHECKING:
    from django_idempotency.writes.payloads import Key
    from django_idempotency.writes.windows import DedupWindow


def tell(window: DedupWindow, key: Key, is_first: bool, duration: float | None = None) -> None:
    """Send that one payload was answered; ``duration`` is that of its handling, in seconds."""
    is_executed = is_first or window.lets_duplicates_pass
    operation_answered.send(
        sender=type(window),
        using=window.alias,
        layer="writes",
        operation=window.name,
        outcome="executed" if is_executed else "replayed",
        scope="",
        digest=key[0],
        fingerprint=b"",
        outcome_hash=b"",
        attempt=1,
        duration=duration if is_executed else None,
        status=None,
        reason="duplicate" if is_executed and not is_first else "",
        is_recorded=True,  # by the window's own row: an audit event would cost a duplicate a write
    )


def tell_all(window: DedupWindow, first: int, total: int, duration: float) -> None:
    """Send how many were answered at once, the first of their like among them, and how long that took in seconds."""
    executed = total if window.lets_duplicates_pass else first
    batch_answered.send(
        sender=type(window),
        using=window.alias,
        layer="writes",
        operation=window.name,
        counts={"executed": executed, "replayed": total - executed},
        duration=duration,
    )
