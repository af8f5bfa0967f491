from django.db import migrations

from django_idempotency.audit.triggers import AppendOnly


class Migration(migrations.Migration):

    dependencies = [
        ("idempotency", "0001_initial"),
    ]

    operations = [
        AppendOnly("AuditEvent"),
    ]
