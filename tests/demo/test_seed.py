"""The users of the demo."""

from __future__ import annotations

import json

import httpx

from tests.demo.commands import environment, manage


def dump(url: str) -> str:
    return manage("dumpdata", "auth.user", "authtoken.token", "--indent=1", env=environment(url)).stdout


def test_seeding_again_changes_nothing(seeded_url):
    before = dump(seeded_url)
    again = manage("demo_seed", env=environment(seeded_url))
    assert again.returncode == 0, again.stderr
    assert dump(seeded_url) == before
    rows = json.loads(before)
    tokens = {row["pk"] for row in rows if row["model"] == "authtoken.token"}
    superusers = {row["fields"]["username"] for row in rows if row["fields"].get("is_superuser")}
    assert tokens == {"alice-demo-token", "bob-demo-token", "admin-demo-token"}
    assert superusers == {"admin"}


def test_every_token_opens_the_api(server):
    for name in ("alice", "bob", "admin"):
        headers = {"Authorization": f"Token {name}-demo-token"}
        response = httpx.get(f"{server.url}/api/charges/", headers=headers, trust_env=False, verify=False)
        assert response.status_code == 200
