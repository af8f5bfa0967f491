"""The demo can be deployed as it stands."""

from __future__ import annotations

import secrets

from tests.demo.commands import environment, manage


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
