from django.db import migrations

from django_idempotency.writes.overlaps import NoOverlap


class Migration(migrations.Migration):

    dependencies = [
        ("idempotency", "0003_windows"),
    ]

    operations = [
        NoOverlap("DedupInterval"),
    ]
