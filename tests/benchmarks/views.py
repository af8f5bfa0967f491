"""The measured views: one that inserts a row, as it is and protected."""

from __future__ import annotations

from django.db import transaction
from rest_framework import serializers
from rest_framework.generics import CreateAPIView

from django_idempotency import Policy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.models import Payment


class PaymentSerializer(serializers.ModelSerializer):
    class Meta:
        model = Payment
        fields = ("id", "reference", "amount")


class PaymentView(CreateAPIView):
    queryset = Payment.objects.all()
    serializer_class = PaymentSerializer

    def perform_create(self, serializer: serializers.BaseSerializer) -> None:
        """Insert in a transaction, as a view does whose payment is more than one row.

        So the bare view has a BEGIN and a COMMIT too, the others a savepoint; protection weighs more without.
        """
        with transaction.atomic():
            serializer.save()


class ProtectedPaymentView(IdempotencyMixin, PaymentView):
    idempotency = Policy(required=True)
