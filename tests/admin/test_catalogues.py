"""The catalogues say everything that the desk says, and are compiled from what is written."""

from __future__ import annotations

import ast
import gettext
import re
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.translation import override

import django_idempotency
from django_idempotency.admin.verbs import VERBS
from tests.admin.desks import make_record, page_of, verb_of

PACKAGE = Path(django_idempotency.__file__).parent
LANGUAGES = ("ar", "de")
SPOKEN = [
    *PACKAGE.glob("admin/*.py"),
    *PACKAGE.glob("audit/*.py"),
    PACKAGE / "jobs" / "models.py",
    PACKAGE / "reprocessing" / "models.py",
    PACKAGE / "stores" / "models.py",
    PACKAGE / "streams" / "models.py",
    PACKAGE / "streams" / "projections.py",
    PACKAGE / "writes" / "models.py",
    PACKAGE / "apps.py",
]
_TRANSLATED = re.compile(r"""\{% translate (["'])(.*?)\1""")
_PLACEHOLDER = re.compile(r"%\(\w+\)s")


def catalogue(language: str) -> Any:
    with (PACKAGE / "locale" / language / "LC_MESSAGES" / "django.mo").open("rb") as file:
        return gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]


def spoken() -> Iterator[str]:
    for path in SPOKEN:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_":
                yield ast.literal_eval(node.args[0])
    for path in PACKAGE.glob("templates/admin/**/*.html"):
        yield from (found[1].replace("%", "%%") for found in _TRANSLATED.findall(path.read_text()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_is_said_can_be_said_otherwise(language: str) -> None:
    known = catalogue(language)
    said = set(spoken())
    assert len(said) > 150
    assert [text for text in sorted(said) if not known.get(text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_the_places_of_its_original(language: str) -> None:
    for original, translated in catalogue(language).items():
        if isinstance(original, str):
            assert sorted(_PLACEHOLDER.findall(original)) == sorted(_PLACEHOLDER.findall(translated)), original


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="msgfmt (gettext) is not installed")
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_compiled_is_what_is_written(language: str) -> None:
    source = PACKAGE / "locale" / language / "LC_MESSAGES" / "django.po"
    done = subprocess.run(["msgfmt", "--check-format", "-o", "-", str(source)], check=True, capture_output=True)
    written = gettext.GNUTranslations(BytesIO(done.stdout))._catalog  # type: ignore[attr-defined]
    assert written == catalogue(language)
    assert "fuzzy" not in source.read_text()


@pytest.mark.parametrize(("language", "word"), [("ar", "التسلسل الزمني"), ("de", "Zeitverlauf")])
def test_pages_speak_the_language_of_their_reader(desk: Client, language: str, word: str) -> None:
    record = make_record()
    with override(language):
        pages = [page_of(record), reverse("admin:app_list", args=["idempotency"]), verb_of(record, "erase")]
        texts = [desk.get(page, headers={"Accept-Language": language}).content.decode() for page in pages]
        label = str(next(verb.label for verb in VERBS if verb.name == "erase"))
    assert word in texts[0]
    assert label != "Erase the body"
    assert label in texts[2]
