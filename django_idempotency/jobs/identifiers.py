"""Run ids: UUIDs of version 7 (RFC 9562 §5.7), which sort by the time at which they were made."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_VERSION, _VARIANT = 0x7, 0b10


def new_run_id() -> UUID:
    """Return an id whose first 48 bits are the milliseconds since the epoch, the next 12 a part of one (§6.2)."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    number = milliseconds << 80 | _VERSION << 76 | (rest * 4096 // 1_000_000) << 64
    return UUID(int=number | _VARIANT << 62 | secrets.randbits(62))
