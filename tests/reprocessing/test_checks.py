"""System checks say what is wrong with a projection before it is built."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_idempotency.reprocessing import QuerySetSource, VersionedProjection
from django_idempotency.reprocessing.checks import check_all, check_projections
from tests.models import Payment
from tests.reprocessing.models import Entry, NamedTotal
from tests.reprocessing.projections import Adding, AddingByName, AtOnce, BySnapshot, Recounting


def make(base: Any = Adding, **attributes: Any) -> Any:
    class Made(base, register=False):
        pass

    for name, value in attributes.items():
        setattr(Made, name, value)
    return Made


def ids(*projections: Any) -> list[str]:
    return [message.id or "" for message in check_all(projections)]


class NoModel(VersionedProjection, register=False):
    def build(self, into: Any) -> None:
        """Do nothing."""


class NoBuild(VersionedProjection, register=False):
    model = NamedTotal
    strategy = "rename"


@pytest.mark.parametrize("projection", [Adding, AddingByName, AtOnce, BySnapshot, Recounting])
def test_projections_that_work_are_clean(projection: Any) -> None:
    assert ids(projection) == []


@pytest.mark.parametrize(
    ("projection", "wrong"),
    [
        (make(strategy="copy"), ["idempotency.E080"]),
        (NoModel, ["idempotency.E081"]),
        (make(model="tests.Total"), ["idempotency.E081"]),
        (make(version=0), ["idempotency.E081"]),
        (make(version="2"), ["idempotency.E081"]),
        (make(source=QuerySetSource(Entry.objects.all(), by=("nothing",))), ["idempotency.E082"]),
        (make(source=QuerySetSource(Entry.objects.all(), by=("account_id",))), ["idempotency.E082"]),
        (make(source=QuerySetSource(Entry.objects.all(), lag=timedelta(1))), ["idempotency.E082"]),
        (make(model=Payment), ["idempotency.E083"]),
        (make(AddingByName, model=Payment), []),
        (NoBuild, ["idempotency.E084"]),
        (make(NoBuild, source=QuerySetSource(Entry.objects.all())), ["idempotency.E084"]),
        (make(source=QuerySetSource(Entry.objects.all(), by=("at", "id"))), ["idempotency.W086"]),
    ],
)
def test_what_cannot_work_is_an_error(projection: Any, wrong: list[str]) -> None:
    assert ids(projection) == wrong


def test_two_projections_of_one_name_or_one_model_are_an_error() -> None:
    assert ids(Adding, make(AddingByName, name="totals")) == ["idempotency.E085"]
    assert ids(Adding, make(name="others")) == ["idempotency.E085"]


def test_the_projections_of_the_project_are_clean() -> None:
    assert check_projections() == []
