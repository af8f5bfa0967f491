"""Rows refer to content by its name, and remember what the file was called."""

from __future__ import annotations

import hashlib

import pytest
from django import forms
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile

from django_idempotency.objects import ContentAddressedStorage
from tests.models import Document

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("storage")]


def test_a_row_keeps_the_name_of_the_content_and_the_name_of_the_file(text: bytes) -> None:
    document = Document.objects.create(file=ContentFile(text, "reports/june.pdf"))
    digest = hashlib.sha256(text).hexdigest()
    document = Document.objects.get(pk=document.pk)
    assert document.file.name == f"{digest[:2]}/{digest[2:4]}/{digest}"
    assert (document.file.digest, document.file.filename) == (f"sha256:{digest}", "june.pdf")
    assert document.file_name == "june.pdf"
    with document.file.open() as file:
        assert file.read() == text


def test_two_rows_share_the_content_and_keep_their_own_names(text: bytes) -> None:
    first = Document.objects.create(file=ContentFile(text, "a.txt"))
    second = Document.objects.create(file=ContentFile(text, "b.txt"))
    assert first.file.name == second.file.name
    assert first.file.blob
    assert second.file.blob
    assert (first.file.blob.created, second.file.blob.created) == (True, False)
    assert (first.file_name, second.file_name) == ("a.txt", "b.txt")


@pytest.mark.parametrize(
    ("sent", "kept"), [("C:\\reports\\june.pdf", "june.pdf"), ("x" * 50, "x" * 40), ("../../etc/passwd", "passwd")]
)
def test_the_original_name_is_the_last_part_of_what_was_sent(text: bytes, sent: str, kept: str) -> None:
    document = Document()
    document.file = ContentFile(text, sent)
    assert document.file_name == kept
    document.file.save(sent, ContentFile(text))
    assert Document.objects.get().file_name == kept


def test_a_form_takes_an_upload(text: bytes) -> None:
    class DocumentForm(forms.ModelForm):
        class Meta:
            model = Document
            fields = ("file",)

    form = DocumentForm({}, {"file": SimpleUploadedFile("june.pdf", text)})
    assert form.is_valid(), form.errors
    document = form.save()
    assert (document.file.filename, document.file.size) == ("june.pdf", len(text))


def test_a_field_without_a_place_for_it_keeps_no_file_name(text: bytes) -> None:
    document = Document.objects.create(copy=ContentFile(text, "a.txt"))
    assert (document.copy.filename, document.file_name) == ("", "")
    assert not document.file
    with pytest.raises(ValueError, match="no file"):
        document.file.digest  # noqa: B018


def test_deleting_the_file_of_a_row_leaves_the_content(storage: ContentAddressedStorage, text: bytes) -> None:
    document = Document.objects.create(file=ContentFile(text, "a.txt"))
    name = document.file.name
    document.file.delete()
    assert Document.objects.values_list("file", "file_name").get() == ("", "")
    assert storage.exists(name)
