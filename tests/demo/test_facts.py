"""The import of the demo can be run again."""

from __future__ import annotations

import json

from tests.demo.commands import environment, manage

HEADER = "biz_key,amount_cents,note\n"


def test_an_import_that_is_run_again_changes_nothing(seeded_url, tmp_path):
    file = tmp_path / "facts.csv"

    def run(text, *options):
        file.write_text(text)
        ended = manage("import_facts", str(file), *options, env=environment(seeded_url))
        return ended.stdout.strip() if ended.returncode == 0 else ended.stderr

    rows = HEADER + "".join(f"f-{number},{number},\n" for number in range(30))
    counts = {"inserted": 0, "updated": 0, "unchanged": 0, "stale": 0}
    assert json.loads(run(rows, "--json")) == counts | {"inserted": 30}
    assert json.loads(run(rows, "--json")) == counts | {"unchanged": 30}
    assert run(rows.replace("f-7,7", "f-7,8")) == "0 inserted, 1 updated, 29 unchanged, 0 stale"
    assert "more than one row with the key biz_key='f-1'" in run(rows + "f-1,1,\n")
    assert "was not imported" in run(rows + "f-99,many,\n")
    assert "no column note" in run("biz_key,amount_cents\n")
    assert json.loads(run(rows.replace("f-7,7", "f-7,8"), "--json")) == counts | {"unchanged": 30}
