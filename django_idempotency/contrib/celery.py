"""Celery: jobs that run once as its tasks, and the purge as one: ``pip install django-idempotency[celery]``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

from celery import Task, shared_task
from celery.canvas import Signature
from celery.contrib.django.task import DjangoTask
from celery.exceptions import Reject, Retry
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from django_idempotency import jobs, purging
from django_idempotency.conf import settings
from django_idempotency.exceptions import OperationInProgress

PURGE = "django_idempotency.purge_expired"
_SOON = timedelta(minutes=10)
_LONGEST_DELAY = timedelta(seconds=30)

# A bound task is an argument of its function, but none of its job.
jobs.leave_out(Task)


class LedgerTask(DjangoTask):  # type: ignore[misc]
    """The base of tasks that are jobs: ``@shared_task(base=LedgerTask)`` above ``@run_once``, or with ``run_once={…}``.

    A message is acknowledged after the run, and comes again if its worker is lost. A delivery that meets a run in
    progress is sent again for when the lease of that ends, where the job has ``on_running="retry"`` (the default of the
    option ``run_once``) or the broker has delivered the message before; it uses up no retry of the task.
    """

    #: The arguments of ``run_once``, in place of the decorator.
    run_once: Mapping[str, Any] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "run" not in vars(cls):
            return
        if cls.run_once is not None:
            _decorate(cls, cls.run_once)
        if _job(cls):
            for option in ("acks_late", "reject_on_worker_lost"):
                if option not in vars(cls):
                    setattr(cls, option, True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, as the origin of the run that its job begins."""
        request = self.request
        if request.called_directly or not _job(self):
            return super().__call__(*args, **kwargs)
        try:
            with jobs.called_by(f"celery:{request.id}"):
                return super().__call__(*args, **kwargs)
        except OperationInProgress as error:
            if request.is_eager or not (isinstance(error, jobs.RetryLater) or _is_redelivered(request)):
                raise
            self._send_again(error)

    def enqueue_once(self, *args: Any, **kwargs: Any) -> jobs.Enqueued:
        """Do as the function ``enqueue_once`` does, with this task."""
        return enqueue_once(self, *args, **kwargs)

    def _send_again(self, error: OperationInProgress) -> NoReturn:
        """Send the same message for later. Task.retry() would count it, and lose it where the broker is away."""
        after = error.after if isinstance(error, jobs.RetryLater) else jobs.job_of(self.run).options.lease
        seconds = min(after, _LONGEST_DELAY).total_seconds()
        message = self.signature_from_request(self.request, countdown=seconds, retries=self.request.retries)
        try:
            message.apply_async()
        except Exception as failure:
            raise Reject(failure, requeue=True) from failure
        raise Retry(exc=error, when=seconds, sig=message) from error


def _job(task: Any) -> jobs.Job | None:
    try:
        return jobs.job_of(task.run)
    except TypeError:
        return None


def _decorate(task: Any, options: Mapping[str, Any]) -> None:
    if _job(task):
        raise ImproperlyConfigured(f"The task {task.name} has @run_once and the option run_once: one is enough.")
    is_bound = not isinstance(inspect.getattr_static(task, "run"), staticmethod)
    once = jobs.run_once(**{"name": task.name, "on_running": "retry", **options})(task.run)
    task.run = once if is_bound else staticmethod(once)


def _arguments(task: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments of the function: that of a bound task gets the task, too."""
    return (task, *args) if inspect.ismethod(task.run) else tuple(args)


def _is_redelivered(request: Any) -> bool:
    return bool((request.delivery_info or {}).get("redelivered"))


def enqueue_once(task: Any, /, *args: Any, **kwargs: Any) -> jobs.Enqueued:
    """Send a task after commit, unless its job is done, under way or sent already; tell which.

    ``task`` may be a signature, with the options that it is to be sent with: ``send_invoice.s(7).set(queue="slow")``.
    Raises FingerprintMismatch where the key has been used with other arguments.
    """
    message: Any = task.clone(args, kwargs) if isinstance(task, Signature) else task.s(*args, **kwargs)
    arguments, deadline = _arguments(message.type, message.args), _delay(message.options) + _SOON
    return jobs.enqueue_once(
        message.type.run, arguments, dict(message.kwargs), send=message.apply_async, deadline=deadline
    )


def _delay(options: Mapping[str, Any]) -> timedelta:
    """Return for how long a message waits at its worker by its own options."""
    eta: datetime | None = options.get("eta")
    if eta:
        return max(eta - timezone.now(), timedelta(0))
    return timedelta(seconds=options.get("countdown") or 0)


@shared_task(name=PURGE)  # type: ignore[untyped-decorator]
def purge_expired(**options: Any) -> dict[str, Any]:
    """Purge as ``idempotency_purge`` does, and return what it prints with ``--json``.

    Takes the arguments of ``purging.purge``; by default it ends when the next one is due.
    """
    return purging.purge(**{"max_seconds": settings.cleanup_interval.total_seconds(), **options}).as_json()


def beat_schedule(**options: Any) -> dict[str, dict[str, Any]]:
    """Return entries for ``app.conf.beat_schedule``: a purge every ``IDEMPOTENCY_CLEANUP_INTERVAL``."""
    interval = settings.cleanup_interval.total_seconds()
    # One that nobody could take in time is dropped: the next one does its work.
    entry = {"task": PURGE, "schedule": interval, "kwargs": options, "options": {"expires": interval}}
    return {PURGE: entry}
