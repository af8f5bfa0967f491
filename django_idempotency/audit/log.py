"""The audit log: one line for each answer and each decision, with digests in place of keys."""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from typing import Any

from django_idempotency import signals
from django_idempotency.audit.commits import after_commit, at_once, when_true

logger = logging.getLogger("django_idempotency.audit")

_LEVEL = logging.INFO
_SHOWN = 8  # bytes of a digest: enough to find the record, too few to look up a guessed key in another table
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}


def connect() -> None:
    """Listen from now on."""
    for signal, listener in _LISTENERS:
        signal.connect(listener, dispatch_uid="idempotency log")


def log_answered(*, using: str | None, outcome: str, **facts: Any) -> None:
    """Log how an operation was answered."""
    if logger.isEnabledFor(_LEVEL):
        line = _line(outcome, facts)
        duration = facts.get("duration")
        line["request_fingerprint"] = bytes(facts.get("fingerprint") or b"")[:_SHOWN].hex()
        line["outcome_hash"] = bytes(facts.get("outcome_hash") or b"")[:_SHOWN].hex()
        line["duration_ms"] = None if duration is None else round(duration * 1000, 3)
        line["status"] = facts.get("status")
        line["reason"] = facts.get("reason", "")
        when_true(using, outcome, partial(_write, line))


def log_batch(*, using: str | None, counts: dict[str, int], duration: float | None = None, **facts: Any) -> None:
    """Log how many alike were handled, by outcome (``count_inserted`` …)."""
    if logger.isEnabledFor(_LEVEL):
        line = _line("batch", facts) | {f"count_{outcome}": count for outcome, count in counts.items()}
        line["duration_ms"] = None if duration is None else round(duration * 1000, 3)
        after_commit(using, partial(_write, line))


def log_taken_over(*, using: str | None, **facts: Any) -> None:
    """Log that an attempt has taken the place of one whose lease had ended."""
    if logger.isEnabledFor(_LEVEL):
        after_commit(using, partial(_write, _line("taken_over", facts)))


def log_fenced(**facts: Any) -> None:
    """Log that an attempt came too late; its transaction is the one that does not commit."""
    if logger.isEnabledFor(_LEVEL):
        at_once(partial(_write, _line("fenced", facts)))


def log_released(**facts: Any) -> None:
    """Log that an operator has freed a key."""
    log_decision(action="released", **facts)


def log_resolved(*, is_done: bool, **facts: Any) -> None:
    """Log what an operator says has come of an operation."""
    log_decision(action="resolved_done" if is_done else "resolved_not_done", **facts)


def log_decision(*, using: str | None, action: str, actor: str = "", **facts: Any) -> None:
    """Log who has decided what. Why, in their own words, is left to the table of audit events."""
    if logger.isEnabledFor(_LEVEL):
        after_commit(using, partial(_write, _line(action, facts) | {"actor": actor}))


def log_purged(*, using: str | None, table: str, count: int, **facts: Any) -> None:
    """Log that rows were deleted whose time was over."""
    if logger.isEnabledFor(_LEVEL):
        after_commit(using, partial(_write, _line("purged", facts) | {"table": table, "count": count}))


_LISTENERS = (
    (signals.operation_answered, log_answered),
    (signals.batch_answered, log_batch),
    (signals.operation_taken_over, log_taken_over),
    (signals.operation_fenced, log_fenced),
    (signals.operation_released, log_released),
    (signals.operation_resolved, log_resolved),
    (signals.decision_made, log_decision),
    (signals.rows_purged, log_purged),
)


def _line(outcome: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "timestamp": time.time(),
        "outcome": outcome,
        "layer": facts.get("layer", ""),
        "operation": facts.get("operation", ""),
        "idempotency_key": bytes(facts.get("digest") or b"")[:_SHOWN].hex(),
        "attempt": facts.get("attempt", 0),
    }


def _write(line: dict[str, Any]) -> None:
    # %a escapes what could end a line: a plain formatter prints the message as it is.
    logger.log(_LEVEL, "%s %a %s", line["outcome"], line["operation"], line["idempotency_key"], extra=line)


class JSONFormatter(logging.Formatter):
    """Renders a log record with its ``extra`` as one line of JSON, in which nothing can start another line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: pure ASCII, control characters escaped."""
        line: dict[str, Any] = {
            "timestamp": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, skipkeys=True)
