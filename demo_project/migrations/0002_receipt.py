"""The table of receipts."""

from django.db import migrations, models

import demo_project.models
import django_idempotency.objects.fields


class Migration(migrations.Migration):
    """Makes it."""

    dependencies = [("demo", "0001_initial")]
    operations = [
        migrations.CreateModel(
            name="Receipt",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=demo_project.models.new_receipt_id,
                        editable=False,
                        max_length=27,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("user_id", models.CharField(db_index=True, max_length=64)),
                ("file_name", models.CharField(blank=True, max_length=255)),
                (
                    "file",
                    django_idempotency.objects.fields.ContentAddressedFileField(
                        db_index=True, filename_field="file_name", max_length=160, storage="blobs"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
