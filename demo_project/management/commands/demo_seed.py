"""Makes the users of the demo."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction
from rest_framework.authtoken.models import Token

NAMES = ("alice", "bob", "admin")


class Command(BaseCommand):
    """Running it again changes nothing."""

    help = "Migrates, and makes the users alice, bob and admin (password = name) with their tokens. Safe to repeat."

    def handle(self, *args: Any, verbosity: int, **options: Any) -> None:
        """Migrate, then make who is missing."""
        call_command("migrate", verbosity=max(0, verbosity - 1), interactive=False)
        for name in NAMES:
            with transaction.atomic():
                self._seed(name)
            if verbosity:
                self.stdout.write(f"{name}: password {name}, token {name}-demo-token")

    def _seed(self, name: str) -> None:
        user = User.objects.filter(username=name).first()
        if user is None:
            make = User.objects.create_superuser if name == "admin" else User.objects.create_user
            user = make(name, password=name)
        key = f"{name}-demo-token"
        if not Token.objects.filter(user=user, key=key).exists():
            Token.objects.filter(user=user).delete()
            Token.objects.create(user=user, key=key)
