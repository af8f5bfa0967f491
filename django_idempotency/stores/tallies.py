"""Counts of duplicates in Redis: in the very script that has found one, and drained from there into the audit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

from django_idempotency.core.records import Operation
from django_idempotency.core.tallies import Tallies, Tally, tallied_facts
from django_idempotency.stores.connections import RedisConnection, RedisUnavailable
from django_idempotency.stores.encoding import FINGERPRINT_AT, FINGERPRINT_NAME, MARK_PREFIX

#: Looks a key up; leaves a mark where nothing is there, and counts where what is there is of this very request.
#: A count that fails, for want of memory say, does not keep the outcome from being replayed.
LOOK_OR_MARK = f"""
local found = redis.call('GET', KEYS[1])
if not found then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {{false, false}}
end
local function begins(with, at) return string.sub(found, at, at + #with - 1) == with end
local outcome = false
if begins({FINGERPRINT_NAME.decode()!r} .. ARGV[3], {FINGERPRINT_AT + 1}) then outcome = 'replayed'
elseif begins({MARK_PREFIX.decode()!r} .. ARGV[3], 1) then outcome = 'in_progress' end
if outcome then
  local counted = redis.pcall('HINCRBY', KEYS[2], outcome .. ' ' .. ARGV[4], 1)
  if type(counted) == 'table' then outcome = false end
end
return {{found, outcome}}
"""
_TAKE_BACK = "return redis.call('HINCRBY', KEYS[1], ARGV[1], -1)"
# Puts the counts aside under an id, unless some are there still, of whose fate nobody is sure.
_PUT_ASIDE = """
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'id', ARGV[1])
end
return redis.call('HGETALL', KEYS[2])
"""
_DELETE = "if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_SLOTS = 256


class TallyBook:
    """The counts beside the records of a store: one hash for each two first digits of their keys.

    A record and its counts have these digits as their hash tag, so that a cluster keeps them on one node.
    """

    def __init__(self, redis: RedisConnection, prefix: str) -> None:
        self._redis, self._prefix = redis, prefix

    def key(self, digits: str) -> str:
        """Return the key that a record with these hexadecimal digits is kept under."""
        return f"{self._prefix}{{{digits[:2]}}}{digits[2:]}"

    def beside(self, key: str) -> str:
        """Return the key of the counts beside a record."""
        return f"{key[: len(self._prefix) + 4]}tally"

    def take_back(self, key: str, operation: Operation, outcome: str) -> None:
        """Take one count back, as long as that can be done."""
        name = outcome.encode() + b" " + tallied_facts(operation, time.time())
        with suppress(RedisUnavailable):
            self._redis.run(_TAKE_BACK, self.beside(key), name)

    def drain(self) -> Iterator[Tallies]:
        """Yield what was counted, in batches; each is deleted once the next is asked for. Raises RedisUnavailable."""
        for slot in range(_SLOTS):
            yield from self._drain(self.beside(self.key(f"{slot:02x}")))

    def _drain(self, counts: str) -> Iterator[Tallies]:
        """Drain one hash; what an earlier drain has left behind comes first."""
        aside, batch = f"{counts}:aside", ""
        new = uuid4().hex
        while batch != new and (found := self._redis.run(_PUT_ASIDE, counts, new, beside=(aside,))):
            named = dict(zip(found[::2], found[1::2], strict=True))
            batch = named.pop(b"id").decode()
            yield Tallies(id=batch, counted=[Tally.named(name, int(count)) for name, count in named.items()])
            self._redis.run(_DELETE, aside, batch)
