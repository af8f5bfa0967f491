"""For the tests of projects and of stores: one contract that every store must keep."""

from django_idempotency.testing.contracts import StoreContract
from django_idempotency.testing.operations import CREATED, DAY, make_operation

__all__ = ["CREATED", "DAY", "StoreContract", "make_operation"]
