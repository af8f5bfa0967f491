"""The cipher is AES-256-GCM, with a nonce in front."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from django_idempotency.contrib.cryptography import AEAD

KEY = bytes(range(32))


def test_another_program_can_decrypt_it() -> None:
    sealed = AEAD().encrypt(KEY, b"plain", b"associated")
    assert AESGCM(KEY).decrypt(sealed[:12], sealed[12:], b"associated") == b"plain"
    assert len(sealed) == 12 + len(b"plain") + 16


@pytest.mark.parametrize(
    ("key", "cut", "associated"),
    [(bytes(32), 99, b"associated"), (KEY, 20, b"associated"), (KEY, 99, b"other"), (KEY, 3, b"")],
)
def test_what_is_not_as_it_was_is_a_value_error(key: bytes, cut: int, associated: bytes) -> None:
    with pytest.raises(ValueError, match=r"[Nn]once|that were encrypted"):
        AEAD().decrypt(key, AEAD().encrypt(KEY, b"plain", b"associated")[:cut], associated)
