"""Clients of the tests: a user with a token who sends idempotency keys."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from rest_framework.authtoken.models import Token


def new_key() -> str:
    """Return a fresh key in the default format."""
    return str(uuid.uuid4())


class Caller:
    """Sends requests as one user. ``key`` is sent quoted, ``raw_key`` as it stands."""

    def __init__(self, name: str, client: Client | None = None) -> None:
        self.user = User.objects.create_user(name, password=name)
        self.token = Token.objects.create(user=self.user)
        self.client = client or Client(raise_request_exception=False)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        raw_key: str | None = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Any:
        sent = {"Authorization": f"Token {self.token.key}", **(headers or {})}
        if key is not None:
            sent["Idempotency-Key"] = f'"{key}"'
        if raw_key is not None:
            sent["Idempotency-Key"] = raw_key
        data = {} if body is None else body
        if isinstance(data, dict) and content_type == "application/json":
            return self.client.generic(method, path, json.dumps(data), content_type=content_type, headers=sent)
        if isinstance(data, str | bytes):
            return self.client.generic(method, path, data, content_type=content_type, headers=sent)
        return getattr(self.client, method.lower())(path, data, content_type=content_type, headers=sent)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.send("POST", path, body, **options)
