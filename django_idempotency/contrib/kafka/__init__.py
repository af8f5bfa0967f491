"""Kafka, through confluent-kafka: ``pip install django-idempotency[kafka]``. The only package that knows it.

``IDEMPOTENCY_BROKERS = {"default": {"BACKEND": "django_idempotency.contrib.kafka.KafkaBroker", "OPTIONS":
{"bootstrap_servers": "kafka:9092"}}}``. What librdkafka calls its properties goes into ``config`` (for all clients),
``producer`` and ``consumer``.
"""

from django_idempotency.contrib.kafka.brokers import KafkaBroker

__all__ = ["KafkaBroker"]
