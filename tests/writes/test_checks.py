"""Upserts that make no sense are found before the first."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.db import models
from django.test.utils import isolate_apps

from django_idempotency.writes import UpsertMixin, upsert
from django_idempotency.writes.checks import check_upserts
from django_idempotency.writes.recipes import options_of, problems
from tests.writes.models import Fact, Price

Q = models.Q
CONSTRAINTS = {
    "partial": models.UniqueConstraint(fields=["a", "b"], condition=Q(a="x"), name="tests_partial"),
    "deferrable": models.UniqueConstraint(fields=["a", "b"], deferrable=models.Deferrable.DEFERRED, name="tests_late"),
    "expression": models.UniqueConstraint(models.functions.Lower("a"), "b", name="tests_lower"),
    "another": models.UniqueConstraint(fields=["a"], name="tests_another"),
}


def ids(inner: dict[str, Any], *constraints: models.UniqueConstraint) -> list[str]:
    """Return the ids for a model with this inner class."""
    with isolate_apps("tests"):
        fields = {
            "a": models.CharField(max_length=9),
            "b": models.IntegerField(),
            "changed": models.DateTimeField(auto_now=True),
            "made": models.DateTimeField(auto_now_add=True),
        }
        meta = type("Meta", (), {"app_label": "tests", "constraints": [*constraints]})
        names = {"__module__": __name__, "Meta": meta, "Upsert": type("Upsert", (), inner), **fields}
        model = type("Checked", (UpsertMixin,), names)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(apps.get_app_config("tests"), "get_models", lambda: [model])
            return [str(message.id) for message in check_upserts([apps.get_app_config("tests")])]


def unique(*fields: str) -> models.UniqueConstraint:
    return models.UniqueConstraint(fields=fields, name="tests_key")


def test_the_models_of_the_tests_pass() -> None:
    assert check_upserts() == []


def test_a_good_model_passes_with_its_key_in_any_order() -> None:
    assert ids({"key": ("b", "a"), "payload": ("a",), "guard": "columns"}, unique("a", "b")) == ["idempotency.E103"]
    assert ids({"key": ("a",)}, unique("a")) == []


@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_a_key_needs_a_constraint_that_on_conflict_finds(kind: str) -> None:
    assert "idempotency.E101" in ids({"key": ("b", "a"), "payload": ("changed",)}, CONSTRAINTS[kind])


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ({}, ["idempotency.E101"]),
        ({"key": ("a", "c")}, ["idempotency.E102"]),
        ({"key": "a", "payload": ("b", "bb")}, ["idempotency.E102"]),
        ({"key": "a", "version": "seen"}, ["idempotency.E102"]),
        ({"key": "a", "payload": ("b", "changed")}, ["idempotency.E103"]),
        ({"key": "a", "payload": ("b", "made")}, ["idempotency.E103"]),
        ({"key": "a", "payload": ("a",)}, ["idempotency.E103"]),
        ({"key": "a", "payload": ("revision",)}, ["idempotency.E103"]),
        ({"key": "a", "payload": ()}, ["idempotency.E103"]),
        ({"key": "a", "guard": "hush"}, ["idempotency.E104"]),
        ({"key": "a", "hash_version": 0}, ["idempotency.E104"]),
        ({"key": "a", "payloads": ("b",)}, ["idempotency.E104"]),
    ],
)
def test_options_that_make_no_sense(inner: dict[str, Any], expected: list[str]) -> None:
    assert ids(inner, unique("a")) == expected


@isolate_apps("tests")
def test_a_model_of_several_tables_is_refused() -> None:
    class Special(Fact):
        class Meta:
            app_label = "tests"

    found = problems(Special, options_of(Special, key="biz_key"))
    assert "model" in [problem.kind for problem in found]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "without a key"),
        ({"key": "note"}, "no unique constraint on exactly note"),
        ({"key": "biz_key", "payload": "amuont"}, "Did you mean amount"),
        ({"key": "biz_key", "guard": "hash"}, "inherit from UpsertMixin"),
    ],
)
def test_a_call_that_makes_no_sense_says_so(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        upsert(Fact, [], **options)


def test_a_row_of_another_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a tests\.Fact"):
        upsert(Fact, [Price()], key="biz_key")  # type: ignore[list-item]
