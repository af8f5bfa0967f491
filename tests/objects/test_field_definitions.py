"""What a field is declared with: migrations repeat it, checks read it."""

from __future__ import annotations

from django.core.files.storage import storages
from django.db import models

from django_idempotency.objects import ContentAddressedFileField, ContentAddressedStorage
from tests.models import Document

FILES = "django.core.files.storage.FileSystemStorage"


def test_a_migration_names_the_alias() -> None:
    field = ContentAddressedFileField(storage="other", filename_field="title", db_index=False)
    _, path, args, kwargs = field.deconstruct()
    assert path == "django_idempotency.objects.fields.ContentAddressedFileField"
    assert (args, kwargs) == (
        [],
        {"max_length": 160, "db_index": False, "storage": "other", "filename_field": "title"},
    )
    again = ContentAddressedFileField(*args, **kwargs)
    assert again.deconstruct() == field.deconstruct()


def test_a_storage_and_a_callable_are_taken_as_by_any_file_field() -> None:
    storage = ContentAddressedStorage()
    assert ContentAddressedFileField(storage=storage).storage is storage
    field = ContentAddressedFileField(storage=lambda: storage)
    assert field.storage is storage
    assert callable(field.deconstruct()[3]["storage"])


def test_the_storage_of_an_alias_is_the_one_of_now() -> None:
    assert Document._meta.get_field("file").storage is storages["blobs"]


def test_checks_of_a_field() -> None:
    class Wrong(models.Model):  # noqa: DJ008 - nothing of it is shown
        somewhere = ContentAddressedFileField(storage="nowhere")
        plain = ContentAddressedFileField(storage=lambda: storages.create_storage({"BACKEND": FILES}))
        unnamed = ContentAddressedFileField(filename_field="title")
        number = models.IntegerField()
        numbered = ContentAddressedFileField(filename_field="number")

        class Meta:
            app_label = "elsewhere"
            managed = False

    messages = {field.name: [message.id for message in field.check()] for field in Wrong._meta.local_fields[1:]}
    assert messages == {
        "somewhere": ["idempotency.E074"],
        "plain": ["idempotency.E074"],
        "unnamed": ["idempotency.E075"],
        "number": [],
        "numbered": ["idempotency.E075"],
    }
    assert [message for field in Document._meta.local_fields for message in field.check()] == []
