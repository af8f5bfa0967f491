"""Objects in S3, behind the S3Storage of django-storages: conditional writes decide who stores them.

An object that is asked for again is not written again; a mark below ``touched/`` says that it was. Whoever puts writes
the mark before looking whether the object is there; a collector looks at the mark after it has removed the object, and
gives it back if the mark has changed. S3 reads what was written before, so that one of the two sees the other. The ETag
of the object would not do: it stays the same when the same content is written once more.
"""

from __future__ import annotations

import mimetypes
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from random import uniform
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from botocore.exceptions import ClientError
from django.core import checks
from django.core.files.base import File
from django.utils.http import content_disposition_header

from django_idempotency.objects.blobs import Content
from django_idempotency.objects.exceptions import CollectorRunning, ObjectContended, ObjectCorrupted
from django_idempotency.objects.writers import COLLECTED, CORRUPT, Entry, Writer

_TOUCHED = "touched/"
_LOCK = "collector.lock"
_LONGEST_COLLECTION = timedelta(days=1)
_ATTEMPTS = 8
_MISSING = ("404", "NoSuchKey", "NotFound")
# Another writer, or another delete, was faster, or is at it; the transfer was damaged.
_EXISTS = ("PreconditionFailed", "412")
_AGAIN = ("ConditionalRequestConflict", "OperationAborted", "409")
_DAMAGED = ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch")


class S3Writer(Writer):
    """Needs S3 with conditional writes (``If-None-Match`` and ``If-Match``) and reads that see what was written.

    ``part_size`` is the size in bytes from which an object is uploaded in parts of that size, ``look_size`` that from
    which it is looked for before it is uploaded.
    """

    part_size = 16 * 1024 * 1024
    look_size = 1024 * 1024

    def write(self, content: Content) -> bool:
        """Spool the content, since its name must be known, then store it unless it is there."""
        is_foreseen = content.foresee()
        if is_foreseen and self._is_there(content):
            return False
        with SpooledTemporaryFile(self.part_size) as spool:
            for chunk in content:
                spool.write(chunk)
            return (is_foreseen or not self._is_there(content)) and self._place(spool, content)

    def _is_there(self, content: Content) -> bool:
        """Look before an upload that takes longer than a look."""
        name = self.naming.name(content.hexdigest)
        return bool(content.size > self.look_size and self._head(name) and self._touch(name, content.size))

    def _place(self, spool: IO[bytes], content: Content) -> bool:
        name, code = self.naming.name(content.hexdigest), ""
        for attempt in range(_ATTEMPTS):
            try:
                self._create(name, spool, content)
            except ClientError as error:
                code = _code(error)
                if code in _EXISTS and self._touch(name, content.size):
                    return False
                if code not in (*_EXISTS, *_AGAIN, *_DAMAGED):
                    raise
                time.sleep(uniform(0, 0.05 * 2**attempt))  # noqa: S311 - keeps rivals out of step
            else:
                return True
        raise ObjectCorrupted("The content was damaged on its way.") if code in _DAMAGED else ObjectContended()

    def _touch(self, name: str, size: int) -> bool:
        """Say that the object is wanted; tell whether it is there, and whole. The order is what matters."""
        self._client.put_object(**self._at(_TOUCHED + name), Body=uuid.uuid4().bytes)
        found = self._head(name)
        if found and found["ContentLength"] != size:
            self.condemn(name, found["ETag"])
            return False
        return found is not None

    def _create(self, name: str, spool: IO[bytes], content: Content) -> None:
        spool.seek(0)
        options = {
            **self._parameters(name),
            "ChecksumAlgorithm": "SHA256",
            "Metadata": {"digest": f"{content.algorithm}:{content.hexdigest}"},
        }
        if content.content_type:
            options.setdefault("ContentType", content.content_type)
        if content.size > self.part_size:
            self._create_in_parts(name, spool, options)
            return
        if content.algorithm == "sha256":
            options["ChecksumSHA256"] = b64encode(bytes.fromhex(content.hexdigest)).decode()
        self._client.put_object(**self._at(name), **options, Body=spool.read(), IfNoneMatch="*")

    def _create_in_parts(self, name: str, spool: IO[bytes], options: dict[str, Any]) -> None:
        begun = self._client.create_multipart_upload(**self._at(name), **options)
        upload = {**self._at(name), "UploadId": begun["UploadId"]}
        try:
            parts = []
            for number, body in enumerate(iter(partial(spool.read, self.part_size), b""), start=1):
                sent = self._client.upload_part(**upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256")
                parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": sent["ChecksumSHA256"]})
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        except BaseException:
            with suppress(ClientError):
                self._client.abort_multipart_upload(**upload)
            raise

    def _open(self, path: str) -> File[Any]:
        """Download at once: of a file that S3Storage opens lazily the object may be gone when it is read."""
        opened: Any = self.storage.open(path, "rb")
        try:
            opened.file  # noqa: B018
        except ClientError as error:
            opened.close()
            if _code(error) in _MISSING:
                raise FileNotFoundError(path) from error
            raise
        return cast("File[Any]", opened)

    def entries(self, below: str = "") -> Iterator[Entry]:
        """List the keys."""
        bucket, prefix = self.storage.bucket_name, self._key(below)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for found in (found for page in pages for found in page.get("Contents", ())):
            name = found["Key"].removeprefix(prefix)
            if self.naming.hexdigest(name):
                yield Entry(name=name, size=found["Size"], modified=found["LastModified"])

    def url(self, name: str, filename: str | None) -> str:
        """Return a signed address; what it answers is always saved, never shown as a page of this host."""
        if filename is None or self.storage.custom_domain or not self.storage.querystring_auth:
            return super().url(name, filename)
        parameters = {
            "ResponseContentDisposition": content_disposition_header(True, filename),
            "ResponseContentType": mimetypes.guess_type(filename)[0] or "application/octet-stream",
        }
        return str(self.storage.url(self.prefix + name, parameters=parameters))

    def check(self, alias: str) -> list[checks.CheckMessage]:
        """Say what could replace objects, or make them other bytes than their digest."""
        return [checks.Warning(f"STORAGES[{alias!r}]: {text}", hint=hint, id=id_) for text, hint, id_ in self._faults()]

    def _faults(self) -> Iterator[tuple[str, str, str]]:
        if self.storage.file_overwrite:
            text = "whatever else saves through a storage with these options replaces objects."
            yield text, 'Set "file_overwrite": False in the OPTIONS of S3Storage.', "idempotency.W072"
        if self.storage.gzip:
            text = "gzip has no effect: objects are the bytes that were put."
            yield text, 'Set "gzip": False in the OPTIONS of S3Storage.', "idempotency.W073"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Write a lock object, which is taken over a day later where a collector has died."""
        lock = self._head(_LOCK)
        if lock and datetime.now(UTC) - lock["LastModified"] > _LONGEST_COLLECTION:
            self._delete(_LOCK, lock["ETag"])
        try:
            etag = self._client.put_object(**self._at(_LOCK), Body=uuid.uuid4().bytes, IfNoneMatch="*")["ETag"]
        except ClientError as error:
            if _code(error) in (*_EXISTS, *_AGAIN):
                raise CollectorRunning from error
            raise
        try:
            yield
        finally:
            self._delete(_LOCK, etag)

    def modified(self, name: str) -> datetime | None:
        """Look at the object and at its mark."""
        found, mark = self._head(name), self._head(_TOUCHED + name)
        return max(seen["LastModified"] for seen in (found, mark or found)) if found else None

    def set_aside(self, name: str, before: datetime) -> bool:
        """Copy, delete, and look whether the mark has changed meanwhile."""
        found, mark = self._head(name), self._head(_TOUCHED + name)
        if found is None or any(seen["LastModified"] >= before for seen in (found, mark) if seen):
            return False
        if not self._copy(name, COLLECTED + name) or not self._delete(name, found["ETag"]):
            return False
        if _etag(self._head(_TOUCHED + name)) != _etag(mark):
            self.restore(name)
            return False
        if mark:
            self._delete(_TOUCHED + name, mark["ETag"])
        return True

    def version(self, name: str) -> str:
        """Return the ETag. Raises FileNotFoundError."""
        found = self._head(name)
        if found is None:
            raise FileNotFoundError(name)
        return str(found["ETag"])

    def condemn(self, name: str, version: str) -> bool:
        """Copy, then delete this version."""
        return self._copy(name, CORRUPT + name) and self._delete(name, version)

    def restore(self, name: str) -> None:
        """Copy back. The copy in quarantine is left for a later purge."""
        if self._head(name) is None:
            self._copy(COLLECTED + name, name)

    def purge(self, name: str) -> None:
        """Delete the copy."""
        self._client.delete_object(**self._at(COLLECTED + name))

    def leftovers(self, before: datetime, *, dry_run: bool) -> int:
        """Abort uploads that nobody has completed, and forget marks that are too old to matter."""
        return self._abort_uploads(before, dry_run=dry_run) + self._forget_marks(before, dry_run=dry_run)

    def _abort_uploads(self, before: datetime, *, dry_run: bool) -> int:
        count, bucket, prefix = 0, self.storage.bucket_name, self._key("")
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        for upload in (upload for page in pages for upload in page.get("Uploads", ())):
            is_ours = self.naming.hexdigest(upload["Key"].removeprefix(prefix))
            if is_ours and upload["Initiated"] < before:
                count += 1
                if not dry_run:
                    self._client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return count

    def _forget_marks(self, before: datetime, *, dry_run: bool) -> int:
        count = 0
        for mark in self.entries(_TOUCHED):
            if mark.modified < before:
                found = self._head(_TOUCHED + mark.name)
                if found and found["LastModified"] < before:
                    count += dry_run or self._delete(_TOUCHED + mark.name, found["ETag"])
        return count

    @property
    def _client(self) -> Any:
        return self.storage.connection.meta.client

    def _parameters(self, name: str) -> dict[str, Any]:
        acl = {"ACL": self.storage.default_acl} if self.storage.default_acl else {}
        return {**acl, **self.storage.get_object_parameters(self.prefix + name)}

    def _key(self, name: str) -> str:
        location = self.storage.location.strip("/")
        return f"{location}/{self.prefix}{name}" if location else self.prefix + name

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.storage.bucket_name, "Key": self._key(name)}

    def _head(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.head_object(**self._at(name))
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        return found

    def _copy(self, source: str, target: str) -> bool:
        """Copy within the bucket, in parts where it is large; tell whether there was anything to copy."""
        place = self._at(target)
        try:
            self._client.copy(self._at(source), place["Bucket"], place["Key"], ExtraArgs=self._parameters(target))
        except ClientError as error:
            if _code(error) in _MISSING:
                return False
            raise
        return True

    def _delete(self, name: str, etag: str) -> bool:
        """Delete a version; tell whether it was still there."""
        try:
            self._client.delete_object(**self._at(name), IfMatch=etag)
        except ClientError as error:
            if _code(error) in (*_MISSING, *_EXISTS, *_AGAIN):
                return False
            raise
        return True


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _etag(found: dict[str, Any] | None) -> str | None:
    return found["ETag"] if found else None
