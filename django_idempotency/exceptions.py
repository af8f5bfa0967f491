"""Errors of the idempotency protocol. The first line of a docstring is the default message."""

from __future__ import annotations

import inspect
from collections.abc import Sequence


class IdempotencyError(Exception):
    """The operation was not carried out."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.usual_message())

    @classmethod
    def usual_message(cls) -> str:
        """Return what the error says where nobody has put it in other words."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]


class MissingKey(IdempotencyError):
    """This operation requires an idempotency key."""


class InvalidKey(IdempotencyError):
    """The idempotency key is malformed."""


class MissingScope(IdempotencyError):
    """The request has no identity within which its key could be unique."""


class FingerprintMismatch(IdempotencyError):
    """The idempotency key was used before with a different request."""


class OperationInProgress(IdempotencyError):
    """Another request with this idempotency key is still being processed.

    ``same_request`` is False when the store could tell that the other request differs from this one, otherwise True.
    """

    def __init__(self, message: str = "", *, same_request: bool = True) -> None:
        super().__init__(message)
        self.same_request = same_request


class OutcomeNotReplayable(IdempotencyError):
    """The operation was completed, but its response was not kept.

    ``headers`` are the kept response headers, such as Location.
    """

    def __init__(self, message: str = "", *, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.headers = tuple(headers)


class OutcomeUnreadable(IdempotencyError):
    """The operation was completed, but its response was kept encrypted and cannot be decrypted.

    ``reason`` is for operators: a key that is no longer configured, or bytes that are not those of this operation.
    """

    def __init__(self, message: str = "", *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ClaimLost(IdempotencyError):
    """Another owner completed the operation first; this attempt must be rolled back."""


class LeaseLost(IdempotencyError):
    """The lease on this operation ended while it ran; its effects are rolled back.

    Somebody else carries the operation out, or has done so: the same request gets their outcome.
    """


class OutcomeUnknown(IdempotencyError):
    """An earlier attempt broke off, and whether it had effects elsewhere cannot be told."""


class StepChanged(OutcomeUnknown):
    """An earlier attempt took this step with another version of the code, so that it cannot be resumed."""


class Duplicate(IdempotencyError):
    """The same was accepted before, within its window.

    ``window`` is the name of the window, ``digest`` what the payload is known by (32 bytes).
    """

    def __init__(self, message: str = "", *, window: str = "", digest: bytes = b"") -> None:
        super().__init__(message)
        self.window, self.digest = window, digest


class StoreUnavailable(IdempotencyError):
    """The idempotency store cannot be reached; nothing was carried out."""


class StoreFailed(StoreUnavailable):
    """The store answers, but not with what can be judged; nothing was carried out."""


class TransactionConflict(StoreUnavailable):
    """The database refused the transaction because of a concurrent one (serialization failure or deadlock)."""


class NotDone(Exception):
    """The outside call is known to have had no effect.

    To be raised by the call of a step, for a refused connection, say: the step counts as not begun.
    """
