"""The demo can be deployed as it stands."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from tests.demo.commands import environment, manage
from tests.redis_servers import started_url


def test_a_deployment_has_no_warnings():
    variables = environment("sqlite://", DJANGO_HTTPS="1", DJANGO_SECRET_KEY=secrets.token_urlsafe(60))
    checked = manage("check", "--deploy", "--fail-level=DEBUG", env=variables)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_deployment_without_a_secret_does_not_start():
    checked = manage("check", env=environment("sqlite://", DJANGO_HTTPS="1", DJANGO_SECRET_KEY=""))
    assert checked.returncode != 0
    assert "DJANGO_SECRET_KEY" in checked.stderr


def test_models_and_migrations_agree():
    checked = manage("makemigrations", "--check", "--dry-run", env=environment("sqlite://"))
    assert checked.returncode == 0, checked.stdout


def test_with_redis_it_stands_in_front_of_the_database(tmp_path: Path):
    variables = environment(f"sqlite:///{tmp_path / 'demo.sqlite3'}", REDIS_URL=started_url())
    assert manage("migrate", env=variables).returncode == 0
    examined = manage("idempotency_doctor", "--json", "--strict", env=variables)
    assert examined.returncode == 0, examined.stdout
    findings = json.loads(examined.stdout)["findings"]
    assert findings[0]["text"].startswith("CachedDatabaseStore: ")
    assert "cache idempotency" in [finding["subject"] for finding in findings]


def test_a_deployment_with_redis_has_no_warnings():
    variables = environment(
        "sqlite://", REDIS_URL=started_url(), DJANGO_HTTPS="1", DJANGO_SECRET_KEY=secrets.token_urlsafe(60)
    )
    checked = manage("check", "--deploy", "--fail-level=DEBUG", env=variables)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_without_redis_there_is_the_database_alone(tmp_path: Path):
    variables = environment(f"sqlite:///{tmp_path / 'demo.sqlite3'}", REDIS_URL="")
    assert manage("migrate", env=variables).returncode == 0
    examined = manage("idempotency_doctor", env=variables)
    assert (examined.returncode, examined.stdout.startswith("store default\n  ok       DatabaseStore: ")) == (0, True)
