"""A model field for files that are stored under their digest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.core.files.base import File
from django.core.files.storage import InvalidStorageError, Storage, storages
from django.db import models
from django.db.models.fields.files import FieldFile, FileDescriptor

from django_idempotency.objects.blobs import Blob
from django_idempotency.objects.storage import ContentAddressedStorage

if TYPE_CHECKING:
    _Storage = Storage | Callable[[], Storage]


class ContentAddressedFieldFile(FieldFile):
    """The content that a row refers to. ``blob`` tells, after a save, whether the content was new."""

    field: ContentAddressedFileField
    blob: Blob | None = None

    @property
    def digest(self) -> str:
        """The digest with its algorithm. Raises ValueError without a file, or before it is saved."""
        self._require_file()  # type: ignore[attr-defined]
        return self._content.naming.digest(self._content.naming.resolve(self.name or ""))

    @property
    def filename(self) -> str:
        """What the file was called by whoever uploaded it; empty where ``filename_field`` keeps nothing."""
        return str(getattr(self.instance, self.field.filename_field, "")) if self.field.filename_field else ""

    @property
    def url(self) -> str:
        """The address, which on S3 saves the file under its original name."""
        self._require_file()  # type: ignore[attr-defined]
        return self._content.url(self.name, filename=self.filename or None)

    def save(self, name: str | None, content: File[Any], save: bool = True) -> None:
        """Store the content; the name is only kept beside it."""
        self.blob = self._content.put(content)
        self.name = self.blob.name
        self.field.note_filename(self.instance, name)
        self.instance.__dict__[self.field.attname] = self
        self._committed = True
        if save:
            self.instance.save()

    def delete(self, save: bool = True) -> None:
        """Forget the reference. The content stays until nothing refers to it and it is collected."""
        self.close()
        self.name = None
        self.field.note_filename(self.instance, "")
        setattr(self.instance, self.field.attname, None)
        if save:
            self.instance.save()

    @property
    def _content(self) -> ContentAddressedStorage:
        storage: Any = self.storage
        return storage  # type: ignore[no-any-return]


class ContentAddressedFileDescriptor(FileDescriptor):
    """Notes the original name when a file is assigned: fields before this one are saved first."""

    field: ContentAddressedFileField

    def __set__(self, instance: models.Model, value: Any) -> None:
        super().__set__(instance, value)
        if isinstance(value, File) and not isinstance(value, FieldFile):
            self.field.note_filename(instance, value.name)


class ContentAddressedFileField(models.FileField):
    """Keeps the name of the content, ``aa/bb/digest``, and in ``filename_field``, if given, what the file was called.

    ``storage`` is an alias in STORAGES, or what FileField takes. There is no ``upload_to``: the content is the name.
    """

    attr_class = ContentAddressedFieldFile
    descriptor_class = ContentAddressedFileDescriptor
    _alias: str | None = None

    def __init__(
        self,
        verbose_name: Any = None,
        name: str | None = None,
        *,
        storage: str | _Storage = "blobs",
        filename_field: str | None = None,
        **options: Any,
    ) -> None:
        self.filename_field = filename_field
        # Names are asked for by the collector, a few hundred at a time.
        options = {"max_length": 160, "db_index": True, **options}
        super().__init__(verbose_name, name, storage=None if isinstance(storage, str) else storage, **options)
        self._alias = storage if isinstance(storage, str) else None

    @property
    def storage(self) -> Any:
        """The storage; that of an alias is looked up each time, so that models can be loaded before it can be."""
        return storages[self._alias] if self._alias else self._storage

    @storage.setter
    def storage(self, storage: Any) -> None:
        self._storage = storage

    def note_filename(self, instance: models.Model, name: str | None) -> None:
        """Keep the last part of a file's name, as much of it as the field for it takes."""
        if self.filename_field:
            longest = instance._meta.get_field(self.filename_field).max_length  # type: ignore[union-attr]
            last = (name or "").replace("\\", "/").rpartition("/")[2]
            setattr(instance, self.filename_field, last[:longest])

    def generate_filename(self, instance: models.Model | None, filename: Any) -> str:
        """Return the name as it is: it is not where the content goes."""
        return str(filename)

    def deconstruct(self) -> Any:
        """Say what a migration needs."""
        # Past FileField, which would look the storage up.
        name, path, args, kwargs = super(models.FileField, self).deconstruct()
        kwargs["max_length"] = self.max_length
        kwargs["db_index"] = self.db_index  # type: ignore[attr-defined]
        kwargs["storage"] = self._alias or getattr(self, "_storage_callable", self._storage)
        if self.filename_field:
            kwargs["filename_field"] = self.filename_field
        return name, path, args, kwargs

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Check the storage and the field of the original name."""
        return [*super().check(**kwargs), *self._check_storage(), *self._check_filename_field()]

    def _check_storage(self) -> list[checks.CheckMessage]:
        try:
            if isinstance(self.storage, ContentAddressedStorage):
                return []
            found = f"is a {type(self.storage).__name__}"
        except InvalidStorageError as error:
            found = f"cannot be made: {error}"
        text = f"The storage of {self} must be a ContentAddressedStorage; it {found}."
        return [checks.Error(text, obj=self, id="idempotency.E074")]

    def _check_filename_field(self) -> list[checks.CheckMessage]:
        try:
            if not self.filename_field or isinstance(self.model._meta.get_field(self.filename_field), models.CharField):
                return []
        except FieldDoesNotExist:
            pass
        text = f"{self} names the filename_field {self.filename_field!r}, which is no CharField of its model."
        return [checks.Error(text, obj=self, id="idempotency.E075")]
