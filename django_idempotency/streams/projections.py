"""Projections: rows that are derived from the events of a topic, one for each business key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_idempotency.streams.events import Event
from django_idempotency.streams.sinks import Context, Sink, registry


class Positioned(models.Model):
    """Keeps of a row which event it is from, so that an earlier one of that partition never changes it."""

    source_partition = models.IntegerField(_("source partition"), null=True, editable=False)
    source_version = models.BigIntegerField(_("source version"), null=True, editable=False)

    class Meta:
        abstract = True


class Projection(Sink):
    """Keeps the rows of ``model`` as the events of ``topic`` say; each event is applied once.

    ``key`` names the unique field of the model that the business key is in. ``group`` is the name of the class
    by default. With ``delete_on_tombstone`` a tombstone deletes its row, else it is applied like any other event.
    """

    model: ClassVar[type[models.Model]]
    key: ClassVar[str] = ""
    delete_on_tombstone: ClassVar[bool] = True

    def __init_subclass__(cls, *, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "group" not in vars(cls):
            cls.group = cls.__name__
        if register and cls.topic:
            registry.add(f"{cls.__module__}.{cls.__qualname__}", cls())

    def key_of(self, event: Event) -> Any:
        """Return the value of ``key`` that an event is about: by default its business key."""
        return event.business_key

    def apply(self, event: Event, current: Any) -> Mapping[str, Any] | None:
        """Return the fields to set on the row that ``current`` is (None if there is none); None leaves it alone.

        The row is locked: what is computed from it is right. An exception has the event parked.
        """
        raise NotImplementedError

    def handle(self, events: Sequence[Event], context: Context) -> None:
        """Apply events: one statement reads and locks the rows, at most one each inserts, updates and deletes."""
        values = [self._value(event) for event in events]
        changes = self._changes(set(values))
        for event, value in zip(events, values, strict=True):
            self._apply(event, changes[value])
        self._write([changes[value] for value in sorted(changes)])

    def _changes(self, values: Collection[Any]) -> dict[Any, _Change]:
        # In order: two that lock the same rows in opposite order would wait for each other.
        rows = self._rows.filter(**{f"{self.key}__in": values}).select_for_update().order_by(self.key)
        changes = {value: _Change(key=value) for value in values}
        for row in rows:
            changes[getattr(row, self._field.attname)] = _Change(key=getattr(row, self._field.attname), row=row)
        return changes

    def _apply(self, event: Event, change: _Change) -> None:
        current = change.current
        if isinstance(current, Positioned) and _is_behind(event, current):
            return
        if event.is_tombstone and self.delete_on_tombstone:
            change.current = None
            return
        values = self.apply(event, current)
        if values is None:
            return
        if issubclass(self.model, Positioned):
            values = {**values, "source_partition": event.partition, "source_version": event.version}
        change.set(self.model, self._field.attname, values)

    def _write(self, changes: Sequence[_Change]) -> None:
        """Write what has changed. What a rival has inserted meanwhile is a unique violation: all is tried again."""
        gone = [change.row.pk for change in changes if change.row is not None and change.current is None]
        new = [change.current for change in changes if change.row is None and change.current is not None]
        old = [change.current for change in changes if change.row is not None and change.is_changed]
        if gone:
            self._rows.filter(pk__in=gone).delete()
        if new:
            self._rows.bulk_create(new)
        if old:
            names = set().union(*(change.touched for change in changes if change.row is not None)) | self._clocks()
            pk = self.model._meta.pk.name
            self._rows.bulk_create(old, update_conflicts=True, unique_fields=[pk], update_fields=sorted(names - {pk}))

    def _clocks(self) -> set[str]:
        """Return the fields that tell when a row was changed."""
        return {field.name for field in self.model._meta.concrete_fields if getattr(field, "auto_now", False)}

    def _value(self, event: Event) -> Any:
        value = self._field.to_python(self.key_of(event))
        if value in (None, ""):
            raise ValueError(f"The event is about no {self.key}.")
        return value

    @property
    def _field(self) -> Any:
        return self.model._meta.get_field(self.key)

    @property
    def _rows(self) -> Any:
        return self.model._base_manager.using(self.alias)


@dataclass(slots=True, kw_only=True)
class _Change:
    """What becomes of the row of a key. ``row`` is the one that was there."""

    key: Any
    row: Any = None
    current: Any = None
    touched: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.current = self.row

    @property
    def is_changed(self) -> bool:
        return self.current is not None and bool(self.touched)

    def set(self, model: type[models.Model], key: str, values: Mapping[str, Any]) -> None:
        """Set fields on what is there now, or on a new row, which takes the place of one that is gone."""
        if self.current is None:
            self.current = model(**{key: self.key})
            if self.row is not None:
                self.current.pk = self.row.pk
                self.touched |= {known.name for known in model._meta.concrete_fields if not known.primary_key}
        for name, value in values.items():
            setattr(self.current, name, value)
        self.touched |= values.keys()


def _is_behind(event: Event, row: Positioned) -> bool:
    return row.source_partition == event.partition and (row.source_version or 0) >= event.version
