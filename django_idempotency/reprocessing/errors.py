"""What goes wrong with watermarks and projections. The first line of a docstring is the default message."""

from __future__ import annotations

from collections.abc import Sequence

from django_idempotency.exceptions import IdempotencyError


class WatermarkBusy(IdempotencyError):
    """Another runner has this watermark's window open; try again when it is through."""


class WatermarkMoved(IdempotencyError):
    """The watermark was moved while its window was open; what the window did is rolled back."""


class WatermarkTypeChanged(IdempotencyError):
    """The watermark was kept with positions of another type; take another name for it, or rewind it to its start."""


class ProjectionError(IdempotencyError):
    """The projection was left as it was."""


class NoSuchGeneration(ProjectionError):
    """There is no such version of the projection."""


class WrongState(ProjectionError):
    """This cannot be done to a version in this state."""


class VerificationFailed(ProjectionError):
    """The new version is not what it should be."""


class SwapRefused(ProjectionError):
    """What belongs to the live table would not follow the swap.

    ``findings`` are sentences, each about one object, with what to do about it.
    """

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("The swap is refused:\n" + "\n".join(f"- {finding}" for finding in findings))
        self.findings = tuple(findings)


class SwapTimedOut(ProjectionError):
    """Others kept the lock that the swap needs, or its last catch-up took too long; nothing is swapped."""
