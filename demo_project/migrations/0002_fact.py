"""What nightly files say."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

import django_idempotency.writes.fields


class Migration(migrations.Migration):
    """The table of facts."""

    dependencies: ClassVar = [
        ("demo", "0001_initial"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="Fact",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "payload_hash",
                    django_idempotency.writes.fields.DigestField(max_length=32, null=True, verbose_name="payload hash"),
                ),
                ("revision", models.PositiveBigIntegerField(default=1, editable=False, verbose_name="revision")),
                ("biz_key", models.CharField(max_length=64, unique=True)),
                ("amount_cents", models.BigIntegerField()),
                ("note", models.CharField(blank=True, max_length=200)),
                ("imported_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "abstract": False,
            },
        ),
    ]
