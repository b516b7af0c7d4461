"""The pages of jobs: what is under way, and the log of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.db.models import Q
from django.http import QueryDict
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from jobs import batches, queueing
from jobs.handlers import handler_of, kinds
from jobs.models import BatchItem, Job
from orchestrator.api.references import as_id
from orchestrator.refusals import Invalid
from orchestrator.web import names, pages

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import QuerySet
    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest

LINES = 500  # of a log, on the page; the API has them all
ITEMS = 200  # of a batch, likewise
REFUSED = 20  # of a selection, in the dialog


def _kinds() -> list[tuple[str, str]]:
    return [(kind, kind) for kind in kinds()]


class JobFilters(django_filters.FilterSet):
    """What the list of jobs can be narrowed by."""

    q = django_filters.CharFilter(
        method="search",
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Message, error or id"}),
    )
    state = django_filters.ChoiceFilter(
        method="in_state",
        choices=[("open", "open"), *Job.State.choices],
        empty_label="Any state",
    )
    kind = django_filters.ChoiceFilter(choices=_kinds, empty_label="Any kind")

    class Meta:
        model = Job
        fields = ["q", "state", "kind"]

    def search(self, rows: QuerySet[Job], name: str, text: str) -> QuerySet[Job]:
        return rows.filter(
            Q(message__icontains=text)
            | Q(error__icontains=text)
            | Q(subject__icontains=text)
            | Q(actor__username__icontains=text)
        )

    def in_state(self, rows: QuerySet[Job], name: str, state: str) -> QuerySet[Job]:
        if state == "open":
            return rows.filter(
                state__in=[Job.State.QUEUED, Job.State.RUNNING, Job.State.CANCELLING]
            )
        return rows.filter(state=state)


@pages.page
@require_safe
def job_list(request: PageRequest) -> HttpResponse:
    """List the jobs that the viewer may see, newest first."""
    filters = JobFilters(request.GET, Job.objects.visible_to(request.actor).for_page())
    rows = pages.newest_first(request, filters.qs)
    context = {"filters": filters, "slice": rows, "names": names.of(job.subject for job in rows)}
    return pages.render(request, "jobs/list.html", context, partial="rows")


@pages.page
@require_safe
def job_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show one job: where it stands, who asked, and its log."""
    job = get_object_or_404(Job.objects.visible_to(request.actor).for_page(), pk=id)
    newest = list(job.lines.order_by("-id")[: LINES + 1])
    context: dict[str, Any] = {
        "job": job,
        "lines": newest[:LINES][::-1],
        "lines_left_out": len(newest) > LINES,
        "children": Job.objects.visible_to(request.actor).filter(parent=job).order_by("pk")[:100],
        **(_items(job, request.GET.get("outcome", "")) if job.kind == batches.KIND else {}),
        "names": names.of([job.subject]),
        "may_cancel": may_cancel(job),
    }
    return pages.render(request, "jobs/job.html", context, partial="job")


def _items(batch: Job, outcome: str) -> dict[str, Any]:
    found = batches.counts(batch)
    items = BatchItem.objects.filter(batch=batch).with_outcome()
    if outcome in found:
        items = items.which_are(outcome)
    return {
        "counts": sorted(found.items()),
        "outcome": outcome if outcome in found else "",
        "items": items.select_related("job").order_by("pk")[:ITEMS],
        "items_left_out": items.count() > ITEMS,
        "may_retry": batch.is_final and any(found.get(name) for name in batches.NOT_DONE),
    }


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def new_batch(request: PageRequest) -> HttpResponse:
    """Ask for one verb on all that is selected: by `id`, or with `all` by the filters of a list.

    Shows first what would be done; what is posted is for exactly that.
    """
    asked = request.POST or request.GET
    verb = batches.verb_of(asked.get("verb", ""))
    things = list(_selected(request.actor, verb, asked)[: batches.MAXIMUM_ITEMS + 1])
    seen = batches.preview(request.actor, verb_kind := asked["verb"], things)
    form = verb.form(pages.posted(request))
    if job := pages.accepted(
        form,
        lambda values: batches.request(
            request.actor,
            verb_kind,
            things,
            options={name: value for name, value in values.items() if value not in (None, "")},
            selection=asked.get("selection", ""),
        ),
    ):
        return pages.done(request, reverse("jobs:job", args=[job.pk]), job.message)
    context = {
        "form": form,
        "verb": verb,
        "kind": verb_kind,
        "title": f"{verb.label}: {verb.noun.count(seen.total)}",
        "ready": verb.noun.count(seen.ready),
        "seen": seen,
        "refused": seen.refused[:REFUSED],
        "refused_left_out": len(seen.refused[REFUSED:]),
        "ids": asked.getlist("id"),
        "query": asked.get("query", ""),
        "all": "all" in asked,
    }
    return pages.render(
        request, "jobs/batch.html", context, partial="form", status=pages.status_of(form)
    )


def _selected(actor: Any, verb: batches.BulkVerb, asked: QueryDict) -> QuerySet[Any]:
    if "all" in asked:
        query = QueryDict(asked.get("query", ""), mutable=True)
        for name in ("before", "page"):  # where one is in the list, not what is in it
            query.pop(name, None)
        return verb.noun.narrow(actor, query)
    ids = [pk for pk in map(as_id, asked.getlist("id")) if pk]
    if not ids:
        raise Invalid(f"Tick the {verb.noun.word}s first, or all that match.")
    return verb.noun.rows(actor).filter(pk__in=ids)


@pages.page
@require_POST
def retry(request: PageRequest, id: UUID) -> HttpResponse:
    """Ask again for what a batch did not get done."""
    job = get_object_or_404(Job.objects.visible_to(request.actor), pk=id)
    again = batches.retry(request.actor, job)
    return pages.done(request, reverse("jobs:job", args=[again.pk]), again.message)


@pages.page
@require_POST
def cancel(request: PageRequest, id: UUID) -> HttpResponse:
    """Ask a job to stop."""
    job = get_object_or_404(Job.objects.visible_to(request.actor), pk=id)
    queueing.cancel(request.actor, job)
    return pages.done(request, reverse("jobs:job", args=[id]), "The job was asked to stop.")


def may_cancel(job: Job) -> bool:
    """Return whether a page offers to cancel `job`; the verb itself decides."""
    if job.is_final or job.state == Job.State.CANCELLING:
        return False
    try:
        return handler_of(job.kind).cancellable
    except KeyError:  # of a room that is gone
        return False
