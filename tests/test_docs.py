"""The documentation runs, and leaves nothing out."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands

from django_idempotency.conf import PREFIX, SETTING_NAMES
from django_idempotency.core.policies import Policy
from django_idempotency.http.problems import every_problem
from django_idempotency.streams.sinks import registry
from tests import models, views

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.fixture
def _shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project that the examples belong to, and leave as it was."""
    monkeypatch.setattr(registry, "_sinks", list(registry._sinks))
    for name, content in {
        "shop": {},
        "shop.models": {"Payment": models.Payment},
        "shop.serializers": {"PaymentSerializer": views.PaymentSerializer},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.django_db
@pytest.mark.usefixtures("_shop")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path) -> None:
    namespace: dict[str, Any] = {"INSTALLED_APPS": [], "__name__": "shop.examples"}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


def test_every_setting_check_command_and_problem_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    sources = "".join(path.read_text() for path in (ROOT / "django_idempotency").rglob("*.py"))
    names = {PREFIX + name for name in SETTING_NAMES}
    names |= set(re.findall(r'id="(idempotency\.[EW]\d+)"', sources))
    names |= {name for name, app in get_commands().items() if app == "django_idempotency"}
    names |= {problem.code for problem in every_problem()}
    names |= set(Policy.__dataclass_fields__)
    assert len(names) > 40
    assert [name for name in sorted(names) if f"`{name}" not in text] == []


def test_test_files_that_the_documentation_names_exist() -> None:
    named = {path for page in PAGES for path in re.findall(r"tests/[\w/]+\.py", page.read_text())}
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
