from django.db import migrations

from django_idempotency.stores.installing import StoreFunctions


class Migration(migrations.Migration):

    dependencies = [
        ("idempotency", "0004_jobrun_closed_once"),
    ]

    operations = [
        StoreFunctions("idempotency_claim_d157b49e", "idempotency_complete_f35530a0"),
    ]
