"""Content stored under its digest, so that the same bytes are there once, however often they are sent."""

from django_idempotency.objects.blobs import Blob
from django_idempotency.objects.fields import ContentAddressedFileField
from django_idempotency.objects.references import register_references
from django_idempotency.objects.storage import ContentAddressedStorage

__all__ = ["Blob", "ContentAddressedFileField", "ContentAddressedStorage", "register_references"]
