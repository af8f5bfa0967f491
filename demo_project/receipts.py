"""Receipts: the same report is stored once, however many people upload it."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import mixins, serializers, viewsets
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from demo_project.faults import requested_fault
from demo_project.models import Receipt
from django_idempotency import Policy
from django_idempotency.rest_framework import IdempotencyMixin


class ReceiptSerializer(serializers.ModelSerializer[Receipt]):
    """A receipt: ``is_new`` is whether its content was not there before."""

    digest = serializers.CharField(source="file.digest", read_only=True)
    size = serializers.IntegerField(source="file.size", read_only=True)
    is_new = serializers.BooleanField(source="file.blob.created", read_only=True)

    class Meta:
        model = Receipt
        fields = ("id", "user_id", "file", "file_name", "digest", "size", "is_new", "created_at")
        read_only_fields = ("id", "file_name", "created_at")
        extra_kwargs: ClassVar = {"file": {"write_only": True}}


class ReceiptViewSet(IdempotencyMixin, mixins.CreateModelMixin, viewsets.GenericViewSet[Receipt]):
    """Receipts, uploaded as forms with ``user_id`` and ``file``."""

    queryset = Receipt.objects.all()
    serializer_class = ReceiptSerializer
    parser_classes = (MultiPartParser,)
    idempotency = Policy(required=True)

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Store a receipt. The content is stored before the row commits: if it does not, a collector removes it."""
        fault = requested_fault(request)
        return fault.strike(super().create(request, *args, **kwargs))
