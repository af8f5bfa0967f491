"""Commands, all under the prefix ``idempotency_``."""
