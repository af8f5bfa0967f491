"""Clients of the admin."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.admin.desks import VERBS, VIEWS, seat, staff


@pytest.fixture
def desk(transactional_db: None) -> Client:
    """Somebody who may do everything."""
    return seat(User.objects.create_superuser("admin", password="admin"))


@pytest.fixture
def auditor(transactional_db: None) -> Client:
    """Somebody who may look, and only look."""
    return seat(staff("auditor", *VIEWS))


@pytest.fixture
def operator(transactional_db: None) -> Client:
    """Somebody who may look and decide."""
    return seat(staff("operator", *VIEWS, *VERBS))
