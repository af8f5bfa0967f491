"""The table of bank transactions."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Creates it."""

    dependencies = [
        ("demo", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="BankTransaction",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("account", models.CharField(db_index=True, max_length=64)),
                ("amount_cents", models.IntegerField()),
                ("booked_on", models.DateField()),
                ("text", models.CharField(blank=True, max_length=140)),
            ],
        ),
    ]
