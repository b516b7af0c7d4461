"""One verb for many things: a parent job with an item, and mostly a job, for each of them.

A room registers what can be done to many of its things at once. An item is refused for itself and
never stops the others; what was refused or has failed can be asked again as a new batch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, InterfaceError, transaction
from django.forms import Form
from django.utils import timezone

from accounts.actors import Actor
from accounts.audit import audit
from jobs.handlers import Handler
from jobs.models import BatchItem, Job
from jobs.outcomes import Again, Cancelled, Done, Outcome
from jobs.queueing import enqueue
from jobs.running import INTERNAL_ERROR
from orchestrator.api.serializers import Nothing
from orchestrator.refusals import Conflict, Invalid, NotFound, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.db.models import QuerySet
    from django.http import QueryDict
    from django_filters import FilterSet

    from accounts.revocation import Hit
    from jobs.claims import Claim
    from orchestrator.api.serializers import Input

log = structlog.get_logger(__name__)

KIND = "batch"
MAXIMUM_ITEMS = 5000
AT_ONCE = 50  # items whose jobs may be open at the same time
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two looks at what is under way
NOT_DONE = ["failed", "refused", "cancelled", "dropped"]


@dataclass(frozen=True)
class Noun:
    """What batches act on. Its rows have a `subject` and a `name`.

    `rows` returns what the actor may see, with what `BulkVerb.why_not` and the verbs need.
    `narrow` picks those that match the filters of the noun's page, `narrow_api` those of its list
    in the API; both raise `Invalid` for a filter that makes no sense (`matching`).
    """

    word: str  # “VM”
    rows: Callable[[Actor], QuerySet[Any]]
    narrow: Callable[[Actor, QueryDict], QuerySet[Any]]
    narrow_api: Callable[[Actor, QueryDict], QuerySet[Any]]

    def count(self, number: int) -> str:
        """Return “1 VM” or “12 VMs”."""
        return f"{number} {self.word}" if number == 1 else f"{number} {self.word}s"


def matching(filters: FilterSet) -> QuerySet[Any]:
    """Return the rows that `filters` let through.

    Raises `Invalid` for a value that is none, and for a filter that does not exist: ignored, it
    would select more than was meant.
    """
    errors = {name: [str(text) for text in texts] for name, texts in filters.form.errors.items()}
    for name in filters.data.keys() - filters.filters.keys():
        errors[name] = ["There is no such filter."]
    if errors:
        words = " ".join(f"{name}: {' '.join(texts)}" for name, texts in errors.items())
        raise Invalid(f"The filter makes no sense. {words}", errors={"filter": [words]})
    return filters.qs


@dataclass(frozen=True)
class BulkVerb:
    """What can be done to many things at once.

    `why_not` says, without a query, why a thing would be refused now (empty: it would not); `act`
    is the verb itself. `form` and `options` read its options from a page and from the API. `hits`
    tells what a revocation of these things reaches besides.
    """

    label: str  # “Stop”
    noun: Noun
    why_not: Callable[[Actor, Any], str]
    act: Callable[..., Job]
    form: type[Form] = Form
    options: type[Input] = Nothing
    danger: bool = False
    hits: Callable[[list[Any]], list[Hit]] | None = None


_verbs: dict[str, BulkVerb] = {}


def register(kind: str, verb: BulkVerb) -> None:
    """Let `verb` be asked for many things as `kind` (`vm.stop`)."""
    _verbs[kind] = verb


def verbs_on(word: str) -> dict[str, BulkVerb]:
    """Return the bulk verbs on a noun, in the order of their registration."""
    return {kind: verb for kind, verb in _verbs.items() if verb.noun.word == word}


def verb_of(kind: str) -> BulkVerb:
    """Return the bulk verb `kind`; raises `Invalid` when there is none."""
    try:
        return _verbs[kind]
    except KeyError:
        raise Invalid.field("verb", f"Choose one of: {', '.join(sorted(_verbs))}.") from None


@dataclass(frozen=True)
class Refused:
    """A thing that would be refused now, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Preview:
    """What a batch would do now. `selection` stands for exactly these things."""

    kind: str
    total: int
    refused: list[Refused]
    selection: str
    hits: list[Hit] | None = None

    @property
    def ready(self) -> int:
        return self.total - len(self.refused)


def preview(actor: Actor, kind: str, things: Iterable[Any]) -> Preview:
    """Return what a batch would do to `things` now; changes nothing. Raises `Invalid`."""
    verb = verb_of(kind)
    found = _checked(things)
    reasons = [(one, verb.why_not(actor, one)) for one in found]
    refused = [Refused(one.name, why) for one, why in reasons if why]
    hits = verb.hits([one for one, why in reasons if not why]) if verb.hits else None
    return Preview(kind, len(found), refused, _digest(found), hits)


def request(
    actor: Actor,
    kind: str,
    things: Iterable[Any],
    *,
    options: dict[str, Any] | None = None,
    selection: str = "",
    at_once: int = AT_ONCE,
) -> Job:
    """Ask for `kind` on each of `things`; return the batch's job.

    `options` are the verb's own. With the `selection` of a preview it is refused (`Conflict`) when
    the things are not the same any more. `at_once` bounds how many are under way at a time. Each
    item takes its rights when its turn comes. Raises `Invalid`, too.
    """
    verb = verb_of(kind)
    found = _checked(things)
    if not 1 <= at_once <= MAXIMUM_ITEMS:
        raise Invalid.field("at_once", f"Give a number from 1 to {MAXIMUM_ITEMS}.")
    if selection and selection != _digest(found):
        raise Conflict(
            f"The selection has changed since you looked: it is {verb.noun.count(len(found))} now. "
            "Look again.",
            code="selection_changed",
        )
    with transaction.atomic():
        actor.take()
        job = enqueue(
            KIND,
            f"batch:{kind}",
            actor,
            payload={
                "kind": kind,
                "options": json.loads(json.dumps(options or {}, cls=DjangoJSONEncoder)),
                "at_once": at_once,
                "address": actor.address,
            },
            message=f"{verb.label}: {verb.noun.count(len(found))}.",
        )
        BatchItem.objects.bulk_create(
            [BatchItem(batch=job, subject=one.subject, name=one.name) for one in found]
        )
        audit(actor, "batch.requested", f"job:{job.pk}", kind, data={"items": len(found)})
    return job


def retry(actor: Actor, batch: Job) -> Job:
    """Ask again for what a batch did not get done: its failed, refused and dropped items.

    Returns the job of a new batch. Raises `NotFound` for a job that is no batch, and `Conflict`
    while it runs, or when nothing of it failed.
    """
    if batch.kind != KIND:
        raise NotFound("This job is not a batch: it has no items to retry.")
    if not batch.is_final:
        raise Conflict("This batch still runs. Wait for its end, or cancel it.")
    verb = verb_of(batch.payload["kind"])
    subjects = (
        BatchItem.objects.filter(batch=batch).which_are(*NOT_DONE).values_list("subject", flat=True)
    )
    ids = [subject.partition(":")[2] for subject in subjects]
    if not ids:
        raise Conflict("Nothing of this batch failed.")
    things = list(verb.noun.rows(actor).filter(pk__in=ids))
    if not things:
        raise Conflict("Nothing of what failed is there any more.")
    return request(
        actor,
        batch.payload["kind"],
        things,
        options=batch.payload["options"],
        at_once=batch.payload["at_once"],
    )


def counts(batch: Job) -> dict[str, int]:
    """Return how many items of a batch have which outcome."""
    return BatchItem.objects.filter(batch=batch).tally()


def _checked(things: Iterable[Any]) -> list[Any]:
    found = list(things)
    if not found:
        raise Invalid("Nothing is selected.", code="nothing_selected")
    if len(found) > MAXIMUM_ITEMS:
        raise Invalid(
            f"A batch takes at most {MAXIMUM_ITEMS}; narrow the selection.", code="too_many"
        )
    return found


def _digest(found: list[Any]) -> str:
    subjects = "\n".join(sorted(one.subject for one in found))
    return hashlib.sha256(subjects.encode()).hexdigest()[:32]


class BatchHandler(Handler):
    """`batch`: acts on the waiting items, a bounded number at a time, until all have ended."""

    first = "act"
    cancellable = True

    def step_act(self, claim: Claim) -> Outcome:
        job = claim.job
        items = BatchItem.objects.filter(batch=job)
        under_way = items.filter(job__in=Job.objects.open()).count()
        for item in items.filter(state=BatchItem.State.WAITING).order_by("pk")[
            : max(0, job.payload["at_once"] - under_way)
        ]:
            _act_on(item, job)
        found = counts(job)
        total = sum(found.values())
        left = total - sum(found.get(outcome, 0) for outcome in ("done", *NOT_DONE))
        if not left:
            return Done(result=found, message=_summary(found))
        looked = int(job.payload.get("looks", 0))
        return Again(
            seconds=min(LONGEST_PAUSE, FIRST_PAUSE * 1.3**looked),
            payload={"looks": 0 if found.get(BatchItem.State.WAITING) else min(looked + 1, 30)},
            progress=99 * (total - left) // total,
            message=_summary(found),
        )

    def cancel(self, claim: Claim) -> Outcome:
        """Drop what has not begun. What is under way goes on, and can be cancelled by itself."""
        waiting = BatchItem.objects.filter(batch=claim.job, state=BatchItem.State.WAITING)
        waiting.update(state=BatchItem.State.DROPPED)
        return Cancelled(_summary(counts(claim.job)))


def _act_on(item: BatchItem, batch: Job) -> None:
    """Act on one item, once: the item's row changes in the transaction of the verb."""
    verb = verb_of(batch.payload["kind"])
    waiting = BatchItem.objects.filter(pk=item.pk, state=BatchItem.State.WAITING)
    began = timezone.now()
    try:
        with transaction.atomic():
            # Made anew, so that each item finds the rights as they are at its turn.
            actor = Actor(batch.actor, batch.token, batch.payload["address"], batch.request_id)
            actor.take()
            thing = verb.noun.rows(actor).filter(pk=item.subject.partition(":")[2]).first()
            if thing is None:
                raise NotFound("It is not there any more, or you may not see it.")
            job = verb.act(actor, thing, **batch.payload["options"])
            if not waiting.update(state=BatchItem.State.STARTED, job=job):
                transaction.set_rollback(True)  # another worker did it, or it was dropped
                return
            if job.created_at >= began:  # not the one of an earlier request
                Job.objects.filter(pk=job.pk).update(parent=batch)
    except Refusal as refusal:
        waiting.update(state=BatchItem.State.REFUSED, error=refusal.message)
    except (DatabaseError, InterfaceError):
        raise  # the store is away: the sweeper returns the batch to the queue
    except Exception:
        log.exception("batch.item_failed", item=item.subject)
        waiting.update(state=BatchItem.State.REFUSED, error=INTERNAL_ERROR)


def _summary(found: dict[str, int]) -> str:
    """Return the outcomes in words: “10 done, 1 failed, 2 refused.”"""
    tally = Counter(found)
    under_way = sum(tally[state] for state in ("started", "queued", "running", "cancelling"))
    parts = [
        (tally["done"], "done"),
        (tally["failed"], "failed"),
        (tally["refused"], "refused"),
        (tally["cancelled"], "cancelled"),
        (under_way, "under way"),
        (tally["waiting"], "waiting"),
        (tally["dropped"], "not begun"),
    ]
    return ", ".join(f"{count} {word}" for count, word in parts if count) + "."
