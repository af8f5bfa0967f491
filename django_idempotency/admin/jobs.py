"""Jobs in the admin: their runs, each with what has happened to its key, and what waits in a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.desk import masked, short
from django_idempotency.admin.finding import digest_range
from django_idempotency.admin.names import LeapFilter
from django_idempotency.admin.tables import Table
from django_idempotency.admin.timeline import timeline_of_runs
from django_idempotency.core.layers import JOB_SCOPE
from django_idempotency.models import JobRun, QueuedJob, Record

if TYPE_CHECKING:
    _RunAdmin = admin.ModelAdmin[JobRun]
    _QueuedAdmin = admin.ModelAdmin[QueuedJob]
else:
    _RunAdmin = _QueuedAdmin = admin.ModelAdmin


class JobFilter(LeapFilter):
    """The job, of those that have rows."""

    title = _("job")
    parameter_name = "job"


class JobDesk(Table):
    """What the pages of both tables share."""

    search_help_text: Any = _(
        "The whole business key, a run id, or the first 8 or more hexadecimal digits of a digest."
    )
    opts: Any
    admin_site: Any
    list_display: Any
    #: Fieldsets beneath the one with the key.
    parts: ClassVar[Any]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search what is named exactly, each along an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        ways = Q(key=term) & ~Q(key="")
        if bounds := digest_range(term):
            ways |= Q(digest__range=bounds)
        if self.opts.model is JobRun and (run_id := _run_id(term)):
            ways |= Q(run_id=run_id)
        return queryset.filter(ways), False

    def may_see_keys(self, request: HttpRequest) -> bool:
        """Tell whether the user may see whole keys."""
        user: Any = request.user
        return bool(user.has_perm(f"{self.opts.app_label}.reveal_body"))

    def get_list_display(self, request: HttpRequest) -> Any:
        """Show the keys to those who may see them."""
        key = "shown_key" if self.may_see_keys(request) else "masked_key"
        return ("short_digest", key, *self.list_display)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show the key to those who may see it."""
        key = "shown_key" if self.may_see_keys(request) else "masked_key"
        return ((None, {"fields": ("job", key, "digest_hex")}), *self.parts)

    @admin.display(description=_("digest"))
    def short_digest(self, row: JobRun | QueuedJob) -> str:
        """The digest as logs show it."""
        return short(row.digest)

    @admin.display(description=_("key"))
    def masked_key(self, row: JobRun | QueuedJob) -> str:
        """The beginning of the key, for those who may not see it."""
        return masked(row.key)

    @admin.display(description=_("key"))
    def shown_key(self, row: JobRun | QueuedJob) -> str:
        """The business key, empty where keys are not kept."""
        return row.key

    @admin.display(description=_("digest"))
    def digest_hex(self, row: JobRun | QueuedJob) -> str:
        """The whole digest."""
        return bytes(row.digest).hex()


class JobRunAdmin(JobDesk, _RunAdmin):
    """Which runs there were, of which keys, where, and what came of each."""

    list_display = (
        "job",
        "status",
        "attempt",
        "is_forced",
        "started_at",
        "seconds",
        "worker",
        "origin",
        "short_error",
    )
    list_filter = ("status", JobFilter)
    search_fields = ("key",)  # shows the field; what is searched says get_search_results()
    ordering = ("-run_id",)
    change_form_template = "admin/idempotency/record.html"
    parts: ClassVar = (
        (_("Progress"), {"fields": ("record_link", "run_id", "status", "attempt", "is_forced", "worker", "origin")}),
        (_("Outcome"), {"fields": ("error", "outcome_hash_hex", "same_outcome")}),
        (_("Times"), {"fields": ("started_at", "completed_at", "seconds")}),
    )

    class Media:
        css: ClassVar = {"all": ("idempotency/admin.css",)}

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Add what has happened to the key."""
        run: JobRun = kwargs["obj"]
        context.update(timeline=timeline_of_runs(bytes(run.digest), run._state.db or "default"), decisions=[])
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("duration (s)"))
    def seconds(self, run: JobRun) -> str:
        """How long it took."""
        return f"{(run.completed_at - run.started_at).total_seconds():.3f}" if run.completed_at else ""

    @admin.display(description=_("error"))
    def short_error(self, run: JobRun) -> str:
        """The beginning of the error."""
        return run.error[:80]

    @admin.display(description=_("outcome hash"))
    def outcome_hash_hex(self, run: JobRun) -> str:
        """The SHA-256 of the outcome."""
        return bytes(run.outcome_hash or b"").hex()

    @admin.display(description=_("same outcome"), boolean=True)
    def same_outcome(self, run: JobRun) -> bool | None:
        """Whether a forced run has come to the outcome that it replaces."""
        return run.is_same_outcome

    @admin.display(description=_("record"))
    def record_link(self, run: JobRun) -> str:
        """The record of the key, and all records of the job."""
        of_job = reverse("admin:idempotency_record_changelist", current_app=self.admin_site.name)
        every = format_html(
            '<a href="{}?{}">{}</a>', of_job, urlencode({"scope": JOB_SCOPE + run.job}), _("all records of the job")
        )
        pk = Record.objects.using(run._state.db).filter(digest=run.digest).values_list("pk", flat=True).first()
        if pk is None:
            return every
        address = reverse("admin:idempotency_record_change", args=[pk], current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a> · {}', address, short(run.digest), every)


class QueuedJobAdmin(JobDesk, _QueuedAdmin):
    """What was handed to a queue and has not begun, as far as that is known."""

    list_display = ("job", "queued_at", "expires_at")
    list_filter = (JobFilter,)
    search_fields = ("key",)
    ordering = ("-id",)
    parts: ClassVar = ((_("Times"), {"fields": ("queued_at", "expires_at")}),)


def _run_id(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None
