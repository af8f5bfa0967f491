"""An S3Storage that is quick to make; a subclass, as projects have them."""

from __future__ import annotations

from threading import local
from typing import Any

import boto3
from storages.backends.s3 import S3Storage

_sessions = local()


class OneSessionS3Storage(S3Storage):
    """Reads the service model of boto3 once a thread, not once a storage."""

    def _create_session(self) -> Any:
        if not hasattr(_sessions, "session"):
            _sessions.session = boto3.Session(aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key)
        return _sessions.session
