"""The totals of the charges: a view or a table that the projection makes, not the migration."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Lets Django know of the model."""

    dependencies = [("demo", "0001_initial")]
    operations = [
        migrations.CreateModel(
            name="ChargeTotal",
            fields=[
                ("user_id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("charges", models.PositiveIntegerField()),
                ("amount_cents", models.PositiveBigIntegerField()),
            ],
            options={"db_table": "demo_charge_total", "managed": False},
        ),
    ]
