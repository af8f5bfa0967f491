"""``idempotency_projection``: one verb each, with an exit code that a pipeline can act on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.reprocessing.conftest import _cleared, decisions  # noqa: F401
from tests.reprocessing.models import Entry, NamedTotal
from tests.reprocessing.projections import Adding, AddingByName, enter, expected, found
from tests.reprocessing.registered import known
from tests.reprocessing.test_rollouts import states
from tests.reprocessing.test_traffic import long_reader


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with known(Adding, AddingByName):
        yield


def run(*arguments: str) -> Any:
    output = StringIO()
    call_command("idempotency_projection", *arguments, stdout=output, stderr=StringIO())
    return json.loads(output.getvalue()) if "--json" in arguments else output.getvalue()


def refused(*arguments: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as raised:
        run(*arguments)
    return raised.value.returncode, str(raised.value)


def test_a_version_goes_all_the_way(decisions: list[dict[str, Any]]) -> None:  # noqa: F811
    enter(20)
    assert run("build", "totals") == "build totals v1\nrows: 20\n"
    run("promote", "totals")
    enter(5)
    assert run("catchup", "totals", "--json") == {
        "action": "catchup", "projection": "totals", "version": 1, "rows": 5, "dry_run": False,
    }  # fmt: skip
    assert found() == expected()
    Entry.objects.update(amount=1)
    run("build", "totals", "--generation=2")
    run("verify", "totals", "--generation=2")
    run("promote", "totals", "--generation=2", "--reason=a new recipe", "--actor=user:alice")
    assert found() == expected()
    assert run("rollback", "totals", "--reason=wrong") == "rollback totals v1\n"
    assert states() == {1: "live", 2: "retired"}
    assert run("drop", "totals", "--generation=2", "--json")["versions"] == [2]
    assert [facts["action"] for facts in decisions] == ["promoted", "promoted", "rolled_back", "dropped"]
    assert (decisions[1]["actor"], decisions[1]["reason"]) == ("user:alice", "a new recipe")
    assert decisions[2]["actor"].startswith("user:")


def test_status_shows_all_versions_or_those_of_one_projection() -> None:
    enter(20)
    run("build", "totals")
    run("build", "AddingByName")
    run("promote", "totals")
    assert [(row["projection"], row["version"], row["state"]) for row in run("status", "--json")] == [
        ("totals", 1, "live"),
        ("AddingByName", 1, "built"),
    ]
    shown = run("status", "totals")
    assert "totals v1  live      20 rows read" in shown
    assert "AddingByName" not in shown


def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    enter(20)
    for version in (1, 2, 3):
        run("build", "AddingByName", f"--generation={version}")
        if version < 3:
            run("promote", "AddingByName", f"--generation={version}")
    for action, version in (("build", 3), ("promote", 3), ("rollback", 1), ("drop", 3)):
        said = run(action, "AddingByName", f"--generation={version}", "--dry-run")
        assert said.startswith(f"Would be done: {action} AddingByName v{version}")
    assert run("drop", "AddingByName", "--dry-run", "--json")["versions"] == []
    assert states() == {1: "retired", 2: "live", 3: "built"}


@pytest.mark.postgresql
def test_a_dry_run_of_a_promotion_names_what_refuses_it() -> None:
    run("build", "AddingByName")
    run("promote", "AddingByName")
    run("build", "AddingByName", "--generation=2")
    facts = run("promote", "AddingByName", "--generation=2", "--dry-run", "--json")
    assert facts["refusals"] == []
    assert any("grants are copied" in repair for repair in facts["repairs"])
    with connection.cursor() as cursor:
        cursor.execute("CREATE VIEW dependent AS SELECT * FROM tests_named_total")
    facts = run("promote", "AddingByName", "--generation=2", "--dry-run", "--json")
    assert "view dependent" in facts["refusals"][0]
    code, message = refused("promote", "AddingByName", "--generation=2")
    assert (code, "view dependent" in message) == (4, True)


def test_a_projection_or_a_version_that_is_not_there_exits_with_3() -> None:
    code, message = refused("build", "nothing")
    assert (code, "there are: " in message, "totals" in message) == (3, True, True)
    assert refused("promote", "totals")[0] == 3
    assert refused("rollback", "totals", "--reason=x")[0] == 4
    run("build", "totals")
    run("promote", "totals")
    assert refused("rollback", "totals", "--reason=x")[0] == 3
    assert refused("drop", "totals", "--generation=7")[0] == 3


def test_what_is_not_verified_or_still_live_exits_with_4() -> None:
    enter(5)
    run("build", "totals")
    run("promote", "totals")
    Entry.objects.all().delete()
    run("build", "totals", "--generation=2")
    for action in ("verify", "promote"):
        code, message = refused(action, "totals", "--generation=2")
        assert (code, "has no rows" in message) == (4, True)
    assert refused("drop", "totals", "--generation=1")[0] == 4


@pytest.mark.postgresql
def test_a_lock_that_others_keep_exits_with_5() -> None:
    run("build", "AddingByName")
    run("promote", "AddingByName")
    run("build", "AddingByName", "--generation=2")
    with long_reader(NamedTotal):
        code, message = refused("promote", "AddingByName", "--generation=2", "--attempts=2", "--lock-timeout=0.1")
    assert (code, "left as it was" in message) == (5, True)


@pytest.mark.parametrize("option", ["--lock-timeout=0", "--hold=-1", "--attempts=0", "--batch-size=-1"])
def test_bounds_that_make_no_sense_exit_with_1(option: str) -> None:
    assert refused("build", "totals", option)[0] == 1


def test_a_rollback_without_a_reason_exits_with_1() -> None:
    assert refused("rollback", "totals") == (1, "A rollback needs a --reason.")


def test_the_size_of_batches_is_taken() -> None:
    enter(20)
    run("build", "totals", "--batch-size=3")
    assert found_rows() == 20


def found_rows() -> int:
    (row,) = run("status", "totals", "--json")
    return int(row["rows_read"])
