"""Projections: tables that are derived from others, built in versions of which one is live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from django.db import models, router

from django_idempotency.reprocessing.errors import VerificationFailed
from django_idempotency.reprocessing.sources import Source

#: How a version becomes live: a view is pointed to its table, or its table takes over the name.
STRATEGIES = ("view", "rename")


class VersionedProjection:
    """A projection: what its table is, and how a version of it is built.

    Give it a ``source`` and ``apply``, and a build can be resumed and caught up with; or ``build`` alone, which then
    is run anew for each catch-up. Change ``version`` when code or fields change: what is live stays as it is.

    model: the model that reads the live version; ``managed = False`` under ``strategy="view"``.
    write_through: the application changes the live version itself, in the transactions that change the source.
    keep_old: how many retired versions ``drop`` leaves, for rollbacks.
    """

    model: ClassVar[type[models.Model]]
    name: ClassVar[str] = ""
    version: int = 1
    strategy: ClassVar[Literal["view", "rename"]] = "view"
    source: ClassVar[Source | None] = None
    write_through: ClassVar[bool] = False
    keep_old: ClassVar[int] = 1
    batch_size: int = 5000

    def __init_subclass__(cls, *, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = cls.__name__
        if register:
            _registered.append(cls)

    def __init__(self, *, version: int | None = None, using: str | None = None) -> None:
        if version is not None:
            self.version = version
        self.using = using or router.db_for_write(self.model)

    def apply(self, into: Any, rows: Sequence[Any]) -> None:
        """Add a batch of the source to ``into``, a model of the version's table, in the transaction of its progress."""
        raise NotImplementedError

    def build(self, into: Any) -> None:
        """Fill the empty table of ``into`` in one transaction, where there is no source."""
        raise NotImplementedError

    def verify(self, old: Any, new: Any) -> None:
        """Raise what you like unless the new version may become live; ``old`` is None if nothing is live.

        By default a version without rows does not take the place of one that has some.
        """
        old_rows, new_rows = (model and model._default_manager.using(self.using).exists() for model in (old, new))
        if old_rows and not new_rows:
            raise VerificationFailed("The new version has no rows, the live one has.")


_registered: list[type[VersionedProjection]] = []


def registered() -> tuple[type[VersionedProjection], ...]:
    """Return the projections of the project, in the order of their definition."""
    return tuple(_registered)
