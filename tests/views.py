"""Views of the tests."""

from rest_framework import serializers, viewsets
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.permissions import IsAuthenticated

from django_idempotency import Policy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.models import Payment


class PaymentSerializer(serializers.ModelSerializer):
    class Meta:
        model = Payment
        fields = ("id", "reference", "amount")


class PaymentViewSet(IdempotencyMixin, viewsets.ModelViewSet):
    queryset = Payment.objects.order_by("id")
    serializer_class = PaymentSerializer
    authentication_classes = (TokenAuthentication, SessionAuthentication)
    permission_classes = (IsAuthenticated,)
    idempotency = Policy(required=True)
