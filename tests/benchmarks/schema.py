"""``python -m tests.benchmarks.schema`` prepares the database that DATABASE_URL names and prints the token of its user.

One protected request is made, so that there is a record for others to be modelled on.
"""

from __future__ import annotations

import os
import uuid

import django
from django.core.management import call_command


def main() -> None:
    """Create the tables, a user with a token, and one record."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)

    from django.contrib.auth.models import User
    from django.test import Client
    from rest_framework.authtoken.models import Token

    token = Token.objects.create(user=User.objects.create_user("alice")).key
    response = Client().post(
        "/protected/",
        {"reference": "invoice 2025-004216", "amount": 4200},
        content_type="application/json",
        headers={"Authorization": f"Token {token}", "Idempotency-Key": f'"{uuid.uuid4()}"'},
    )
    assert response.status_code == 201, response.content
    print(token)


if __name__ == "__main__":
    main()
