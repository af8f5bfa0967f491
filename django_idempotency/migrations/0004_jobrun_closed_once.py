from django.db import migrations

from django_idempotency.audit.triggers import AppendOnly


class Migration(migrations.Migration):

    dependencies = [
        ("idempotency", "0003_windows_no_overlap"),
    ]

    operations = [
        AppendOnly("JobRun", closed_by="completed_at"),
    ]
