"""Outcomes are sealed for one operation, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from django_idempotency.contrib.cryptography import AEAD
from django_idempotency.core.fingerprints import Keyring
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.protection import Owner, Vault
from django_idempotency.exceptions import OutcomeUnreadable
from django_idempotency.testing import make_operation

OWNER = Owner(digest=b"d" * 32, scope="tenant:1 / user:2")
OUTCOMES = [
    Outcome(status=201, headers=(("Location", "/x/"), ("X-Umlaut", "ä")), body=b"\x00\xffbinary"),
    Outcome(status=204, body=b""),
    Outcome(status=200, headers=(("Location", "/x/"),), body=None),
]


def vault(*keys: str) -> Vault:
    return Vault(cipher=AEAD(), keyring=Keyring.of(keys, "encryption"))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_was_sealed_opens_as_it_was(outcome: Outcome) -> None:
    sealed = vault("a").seal(outcome, OWNER)
    assert (sealed.status, sealed.headers, sealed.sealed_with) == (outcome.status, (), vault("a").key_id)
    assert b"/x/" not in (sealed.body or b"")
    assert vault("a").open(sealed, OWNER) == outcome


def test_no_two_seals_are_alike() -> None:
    assert vault("a").seal(OUTCOMES[0], OWNER).body != vault("a").seal(OUTCOMES[0], OWNER).body


def test_what_is_sealed_is_not_sealed_again_and_what_is_not_opens_as_it_is() -> None:
    sealed = vault("a").seal(OUTCOMES[0], OWNER)
    assert vault("b").seal(sealed, OWNER) is sealed
    assert vault("a").open(OUTCOMES[0], OWNER) is OUTCOMES[0]


@pytest.mark.parametrize("other", [replace(OWNER, digest=b"e" * 32), replace(OWNER, scope="tenant:1 / user:3")])
def test_it_opens_for_its_owner_alone(other: Owner) -> None:
    with pytest.raises(OutcomeUnreadable):
        vault("a").open(vault("a").seal(OUTCOMES[0], OWNER), other)


def test_status_key_and_every_byte_count() -> None:
    sealed = vault("a").seal(OUTCOMES[0], OWNER)
    body = sealed.body or b""
    changed = [replace(sealed, status=200), replace(sealed, body=b""), replace(sealed, body=body[:-1])]
    changed += [replace(sealed, body=body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]) for at in range(len(body))]
    for one in changed:
        with pytest.raises(OutcomeUnreadable, match="cannot be decrypted"):
            vault("a").open(one, OWNER)


def test_older_keys_open_and_the_newest_seals() -> None:
    old, both = vault("old"), vault("new", "old")
    assert both.open(old.seal(OUTCOMES[0], OWNER), OWNER) == OUTCOMES[0]
    assert both.seal(OUTCOMES[0], OWNER).sealed_with == vault("new").key_id != old.key_id
    with pytest.raises(OutcomeUnreadable) as raised:
        vault("new").open(old.seal(OUTCOMES[0], OWNER), OWNER)
    assert raised.value.reason == f"the key {old.key_id} is not configured"


def test_keys_of_outcomes_are_not_those_of_fingerprints() -> None:
    assert Keyring.of(["a"]).secrets != Keyring.of(["a"], "encryption").secrets


def test_results_of_steps_open_for_their_step_alone() -> None:
    sealed = vault("a").seal_result({"token": "x"}, OWNER, "charge")
    key_id = vault("a").key_id
    assert vault("a").open_result(sealed, OWNER, "charge", key_id) == {"token": "x"}
    for name, text in (("refund", sealed), ("charge", "not hexadecimal"), ("charge", sealed[:-2])):
        with pytest.raises(OutcomeUnreadable):
            vault("a").open_result(text, OWNER, name, key_id)


def test_the_owner_is_the_operation_within_its_scope() -> None:
    key = make_operation().key
    owner = Owner.of(make_operation(key=key.value))
    assert (owner.digest, owner.scope) == (make_operation(key=key.value).key.digest, " / ".join(key.scope))


class Transparent:
    """Encrypts nothing, and notes with which keys."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []

    def encrypt(self, key: bytes, plain: bytes, associated: bytes) -> bytes:
        self.keys.append(key)
        return plain

    def decrypt(self, key: bytes, sealed: bytes, associated: bytes) -> bytes:
        self.keys.append(key)
        return sealed


def test_each_operation_has_a_key_of_its_own() -> None:
    cipher = Transparent()
    noting = Vault(cipher=cipher, keyring=Keyring.of(["a"], "encryption"))
    for owner in (OWNER, replace(OWNER, digest=b"e" * 32)):
        noting.open(noting.seal(OUTCOMES[0], owner), owner)
    assert cipher.keys[0] == cipher.keys[1] != cipher.keys[2] == cipher.keys[3]
    assert {len(key) for key in cipher.keys} == {32}
