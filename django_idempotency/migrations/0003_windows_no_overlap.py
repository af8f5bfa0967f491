from django.db import migrations

from django_idempotency.writes.overlaps import NoOverlap


class Migration(migrations.Migration):

    dependencies = [
        ("idempotency", "0002_auditevent_append_only"),
    ]

    operations = [
        NoOverlap("DedupInterval"),
    ]
