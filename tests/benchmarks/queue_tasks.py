"""One row a task, by Celery and by Django's tasks: as a plain function, and as a job."""

from __future__ import annotations

import django
from celery import shared_task
from django.db import transaction

from django_idempotency.contrib.celery import LedgerTask
from django_idempotency.jobs import run_once
from tests.models import Payment

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


def pay(reference: str) -> int:
    return Payment.objects.create(reference=reference, amount=1).pk


@shared_task(name="plain", acks_late=True)
def celery_plain(reference: str) -> int:
    with transaction.atomic():
        return pay(reference)


@shared_task(name="job", base=LedgerTask)
@run_once(key="celery:{reference}")
def celery_job(reference: str) -> int:
    return pay(reference)


@task()
def django_plain(reference: str) -> int:
    with transaction.atomic():
        return pay(reference)


@task()
@run_once(key="django:{reference}")
def django_job(reference: str) -> int:
    return pay(reference)
