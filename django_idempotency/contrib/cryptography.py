"""Encryption of outcomes by the ``cryptography`` package: ``pip install django-idempotency[encryption]``."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12


class AEAD:
    """AES-256-GCM. What it returns is a random nonce, then ciphertext and tag."""

    def encrypt(self, key: bytes, plain: bytes, associated: bytes) -> bytes:
        """Encrypt under a key of 32 bytes."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(key).encrypt(nonce, plain, associated)

    def decrypt(self, key: bytes, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt. Raises ValueError unless everything is as it was."""
        try:
            return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], associated)
        except InvalidTag as error:
            raise ValueError("The bytes are not those that were encrypted.") from error
