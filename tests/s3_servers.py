"""An S3 for tests: moto behind a port of its own, whose requests are handled one after the other, as S3 appears to."""

from __future__ import annotations

import importlib.util
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from threading import Lock, Thread
from typing import Any

import pytest

from django_idempotency.objects import ContentAddressedStorage


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket of its own on the server of all tests; other processes reach it, too."""

    url: str
    bucket: str

    def options(self, **options: Any) -> dict[str, Any]:
        """Return the OPTIONS of S3Storage."""
        return {
            "bucket_name": self.bucket,
            "endpoint_url": self.url,
            "access_key": "tests",
            "secret_key": "tests",
            "region_name": "us-east-1",
            "file_overwrite": False,
            **options,
        }

    def entry(self, *, s3: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Return an entry of STORAGES."""
        inner = {"BACKEND": "tests.s3_storages.OneSessionS3Storage", "OPTIONS": self.options(**(s3 or {}))}
        return {
            "BACKEND": "django_idempotency.objects.ContentAddressedStorage",
            "OPTIONS": {"storage": inner, **options},
        }

    def storage(self, **options: Any) -> ContentAddressedStorage:
        """Make a storage."""
        return ContentAddressedStorage(**self.entry(**options)["OPTIONS"])

    def keys(self) -> dict[str, Any]:
        """Return what the server itself has, by key, past all clients."""
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"].buckets[self.bucket].keys

    def uploads(self) -> dict[str, Any]:
        """Return the multipart uploads that are neither completed nor aborted."""
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"].buckets[self.bucket].multiparts

    def age(self, name: str, by: timedelta) -> None:
        """Let an object have been written earlier."""
        self.keys()[name].last_modified -= by


@contextmanager
def started_s3() -> Iterator[S3]:
    """Yield a bucket; skip, loudly, where there is no server."""
    missing = [name for name in ("moto", "flask", "storages", "boto3") if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"pip install 'moto[server]' 'django-storages[s3]': {', '.join(missing)} missing")
    s3 = S3(_started_url(), f"tests-{secrets.token_hex(6)}")
    s3.storage().writer.storage.connection.create_bucket(Bucket=s3.bucket)
    yield s3


@cache
def _started_url() -> str:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app, one_at_a_time = DomainDispatcherApplication(create_backend_app), Lock()

    def linearized(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        # moto looks for an object and then writes it, in two steps that other threads may get between.
        with one_at_a_time:
            return list(app(environ, start_response))

    server = make_server("127.0.0.1", 0, linearized, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
