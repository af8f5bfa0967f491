"""The tables of the payment service."""

import django.core.validators
from django.db import migrations, models

import demo_project.models


class Migration(migrations.Migration):
    """Makes them."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Charge",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=demo_project.models.new_charge_id,
                        editable=False,
                        max_length=27,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("user_id", models.CharField(db_index=True, max_length=64)),
                (
                    "amount_cents",
                    models.PositiveIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ]
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("amount_cents__gt", 0)), name="demo_charge_amount_positive"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Payout",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=demo_project.models.new_payout_id,
                        editable=False,
                        max_length=27,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("user_id", models.CharField(db_index=True, max_length=64)),
                (
                    "amount_cents",
                    models.PositiveIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2147483647),
                        ]
                    ),
                ),
                ("bank_reference", models.CharField(max_length=64, unique=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("amount_cents__gt", 0)), name="demo_payout_amount_positive"
                    )
                ],
            },
        ),
    ]
