"""Verbs on a host's cache: pull an image into it, delete one or all of it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.actors import SYSTEM
from accounts.audit import audit
from catalog import going, handing
from catalog.downloads import needed_gib
from catalog.models import HostImage, Image, cached
from hosts import inventory
from hosts.calls import HostHandler, driver_of
from hosts.drivers.base import CreateSpec, ErrorKind, HostError
from hosts.models import Host, HostCapacity
from jobs.models import Job
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome
from jobs.queueing import enqueue
from orchestrator.db.ids import CROCKFORD, MARK_LENGTH, mark
from orchestrator.db.locks import take
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.actors import Actor
    from hosts.drivers.base import Driver, RemoteVM
    from jobs.claims import Claim

PULL, DELETE, SWEEP = "host.cache_pull", "host.cache_delete", "host.cache_sweep"
COLLECT = "host.cache_collect"
HELPER = re.compile(rf"precache-[a-z0-9-]+-[{CROCKFORD}]{{{MARK_LENGTH}}}")
HELPER_CPUS, HELPER_MEMORY_MIB = 1, 1024
REMOVED = "The host was removed from the pool."


class WhoRelies(Protocol):
    def __call__(self, host: Host, images: list[Image] | None) -> str:
        """Return the sentence that says what relies on the host's copies of `images` (None: of
        any image), or nothing."""


_relying: list[WhoRelies] = []


def register(who_relies: WhoRelies) -> None:
    """Add how one room above tells what relies on a host's cache."""
    _relying.append(who_relies)


def pull(
    actor: Actor,
    host: Host,
    image: Image,
    *,
    not_before: str | datetime | None = None,
    not_after: str | datetime | None = None,
) -> Job:
    """Have the host download `image` into its cache, so that the first VM need not wait for it.

    Hosts offer no such call: they make a VM of the image, stopped and with a name of its own, which
    is deleted at once; the copy stays. It counts as foreign meanwhile. It begins within the window
    from `not_before` to `not_after`, or fails. Raises `Forbidden`, `Invalid`, `NotFound`, or
    `Conflict` for another architecture, without room for the download, or while the host's cache is
    being deleted.
    """
    actor.require("hosts.manage")
    window = _window(not_before, not_after)
    with transaction.atomic():
        lock(host)
        actor.take()
        if not take(Image.objects.usable().filter(pk=image.pk)):
            raise Forbidden("This image was revoked or tainted.", code="image_revoked")
        if host.status.architecture != image.architecture:
            raise Conflict(
                f"{host.name} is {host.status.architecture or 'of unknown architecture'}, and this "
                f"image is for {image.architecture}."
            )
        if not HostImage.objects.filter(cached(image), host=host).exists():
            _require_room(host, image)
        key = f"{PULL}:{host.pk}:{image.pk}"
        if found := Job.objects.open().filter(unique_key=key).first():
            return found
        refuse_while(host, [DELETE, COLLECT])
        audit(actor, PULL, f"host:{host.pk}", host.name, data={"image": image.name})
        return enqueue(
            PULL,
            f"host:{host.pk}",
            actor,
            lane=host.lane,
            payload={"image": str(image.pk), "name": _helper_name(image), **window},
            unique_key=key,
            message=f"Waiting to pull {image.name}.",
        )


def pull_named(
    actor: Actor,
    host: Host,
    *,
    catalog_id: str,
    version: str = "",
    not_before: str | datetime | None = None,
    not_after: str | datetime | None = None,
) -> Job:
    """Have the host download the image of this name in its own architecture.

    Without a `version` the one that was added last; `latest` as `Image.objects.named` has it.
    Raises as `pull`, and `NotFound` when the catalog has none for this host.
    """
    actor.require("hosts.manage")
    rows = Image.objects.visible_to(actor).usable()
    image = rows.named(catalog_id, version, host.status.architecture).first()
    if image is None:
        raise NotFound(
            f"The catalog has no usable image {catalog_id}{':' if version else ''}{version} for "
            f"{host.status.architecture or 'an unknown architecture'}."
        )
    return pull(actor, host, image, not_before=not_before, not_after=not_after)


def _window(
    not_before: str | datetime | None, not_after: str | datetime | None
) -> dict[str, float]:
    """Return the window as times since 1970. Raises `Invalid` for one that has no time in it."""
    found: dict[str, float] = {}
    for name, value in (("not_before", not_before), ("not_after", not_after)):
        if not value:
            continue
        moment = _moment(value) if isinstance(value, str) else value
        if moment is None:
            raise Invalid.field(name, "Give a time such as 2026-01-31T22:00:00Z.")
        found[name] = (moment if moment.tzinfo else timezone.make_aware(moment)).timestamp()
    end = found.get("not_after")
    if end is not None and end <= max(timezone.now().timestamp(), found.get("not_before", 0)):
        raise Invalid.field("not_after", "The window has ended before it begins, or by now.")
    return found


def _moment(text: str) -> datetime | None:
    try:
        return parse_datetime(text)
    except ValueError:
        return None


def delete(
    actor: Actor, host: Host, *, catalog_id: str = "", version: str = "", everything: bool = False
) -> Job:
    """Delete an image from the host's cache: one version, all of them, or `everything` there is.

    Raises `Forbidden`, `NotFound` for what the host does not list, `Invalid`, or `Conflict` when a
    VM that is being made, or waits for a host, relies on it, or other work is on the cache.
    """
    actor.require("hosts.manage")
    if everything == bool(catalog_id) or (version and not catalog_id):
        raise Invalid.field("catalog_id", "Name an image, or say that everything is to be deleted.")
    with transaction.atomic():
        lock(host)
        actor.take()
        wanted = {"catalog_id": catalog_id.upper(), "version": version}
        if not everything and not _copies(host, **wanted).exists():
            raise NotFound(f"{host.name} lists no such image in its cache. Look at the host again.")
        if told := _who_relies(host, **wanted):
            raise Conflict(f"{told} Wait for it, or delete it first.", code="in_use")
        key = f"{DELETE}:{host.pk}:{wanted['catalog_id']}:{version}"
        if found := Job.objects.open().filter(unique_key=key).first():
            return found
        refuse_while(host, [PULL, DELETE, COLLECT])
        what = f"{catalog_id} {version}".strip() or "everything"
        audit(actor, DELETE, f"host:{host.pk}", host.name, data={"what": what})
        return enqueue(
            DELETE,
            f"host:{host.pk}",
            actor,
            lane=host.lane,
            payload=wanted,
            unique_key=key,
            message=f"Waiting to delete {what}.",
        )


def lock(host: Host) -> None:
    """Let one change of the host's cache be asked for at a time, and only while it is present."""
    present = Host.objects.select_for_update(no_key=True).present().filter(pk=host.pk)
    if not present.values_list("pk").first():
        raise NotFound(REMOVED)


def _require_room(host: Host, image: Image) -> None:
    has = HostCapacity.objects.get(pk=host.pk)
    if image.pack_size_mib is None:
        return
    needs = needed_gib(image.pack_size_mib, has.shared_volume)
    if has.disk_gib_free < needs:
        raise Conflict(
            f"Its download needs {needs} GiB of free disk, and {host.name} has {has.disk_gib_free}."
            " Make room there first.",
            code="no_room",
        )


def refuse_while(host: Host, kinds: list[str]) -> None:
    jobs = Job.objects.open().about(f"host:{host.pk}").filter(kind__in=kinds)
    if found := jobs.first():
        raise Conflict(f"{found.kind} is under way on this host. Wait for it to end.")


def _copies(host: Host, catalog_id: str, version: str) -> Any:
    return _copies_on(str(host.pk), catalog_id, version)


def _copies_on(host_id: str, catalog_id: str, version: str) -> Any:
    rows = HostImage.objects.filter(host__pk=host_id)
    if catalog_id:
        rows = rows.filter(catalog_id=catalog_id)
    return rows.filter(version=version) if version else rows


def _who_relies(host: Host, catalog_id: str, version: str) -> str:
    images = None
    if catalog_id:
        rows = Image.objects.filter(catalog_id__iexact=catalog_id)
        images = list(rows.filter(version=version) if version else rows)
    return next((told for entry in _relying if (told := entry(host, images))), "")


def _helper_name(image: Image) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", image.catalog_id.lower()).strip("-")[:30].strip("-")
    return f"precache-{slug or 'image'}-{mark()}"


def is_helper(host_vm_name: str) -> bool:
    """Return whether a VM of this name on a host was made to pull an image, and goes again."""
    return HELPER.fullmatch(host_vm_name) is not None


def sweep(host: Host, vms: Iterable[RemoteVM]) -> None:
    """Remove what a pull left on the host that ended before its VM came into being.

    Only a VM whose whole name, mark included, a pull of this host had stored before its call.
    """
    names = {vm.name for vm in vms if is_helper(vm.name)}
    if not names:
        return
    pulls = Job.objects.about(f"host:{host.pk}").filter(kind=PULL, payload__name__in=names)
    for job in pulls:
        if job.is_final:
            name = job.payload["name"]
            key = f"{SWEEP}:{name}"
            payload = {"name": name}
            enqueue(SWEEP, job.subject, SYSTEM, lane=host.lane, payload=payload, unique_key=key)


class CacheHandler(HostHandler):
    """A job about a host's cache."""

    lost = "repeat"

    def run(self, claim: Claim) -> Outcome:
        return super().run(claim) if self.host_of(claim.job) else Fail(REMOVED)

    def host_of(self, job: Job) -> Host | None:
        return Host.objects.present().filter(pk=job.subject_id).first()


class SweepHandler(CacheHandler):
    """`host.cache_sweep`: deletes the VM that a pull left, and sees that it is gone."""

    first = "remove"
    calls = frozenset({"remove"})

    def step_remove(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        with driver_of(host) as driver:
            if self.remove_helper(claim, driver):
                return Again(seconds=settings.VM_POLL_SECONDS)
        return Done(message="Nothing of it is left on the host.")

    def remove_helper(self, claim: Claim, driver: Driver) -> bool:
        """Delete the job's VM if the host lists it; return whether it did."""
        name = claim.job.payload["name"]
        found = [vm for vm in driver.list_vms() if vm.name == name]
        for vm in found:
            with claim.sending():
                driver.delete(vm.id, force=True)
        return bool(found)


class PullHandler(SweepHandler):
    """`host.cache_pull`: create → watch → remove → look. The job's id is that of the host's job."""

    first = "create"
    calls = frozenset({"create", "watch", "remove", "look"})
    cancellable = True

    def step_create(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        now, window = timezone.now().timestamp(), claim.job.payload
        if now < window.get("not_before", now):
            wait = min(3600.0, window["not_before"] - now)
            return Again(seconds=max(0.1, wait), message="Waiting for its time window.")
        if now > window.get("not_after", now) and not self._is_sent(claim.job):
            return Fail("Its time window ended before its turn came. Ask again with a longer one.")
        image = self._image(claim.job)
        if image is None:
            return Fail("This image was revoked or tainted meanwhile.")
        if self._is_sent(claim.job):  # a worker was lost: find out, send nothing twice
            return Again(step="watch")
        if HostImage.objects.filter(cached(image), host=host).exists():
            return Done(message=f"{image.name} is cached already.", result={"image": image.name})
        claim.remember(sent_at=timezone.now().timestamp())
        with driver_of(host) as driver, claim.sending():
            try:
                answer = driver.create(self._spec(claim.job, image, host), job_id=str(claim.job.pk))
            except HostError as error:
                if not error.outcome_unknown:
                    return Fail(error.message)
                claim.log(error.message)
                return Again(step="watch", seconds=1, message="No clear answer; having a look.")
        step = "watch" if answer.host_job_id else "remove"
        return Again(step=step, progress=10, message=f"{host.name} is pulling it.")

    def _image(self, job: Job) -> Image | None:
        rows = Image.objects.usable().select_related("source")
        return rows.filter(pk=job.payload["image"]).first()

    def _is_sent(self, job: Job) -> bool:
        return "sent_at" in job.payload

    def _spec(self, job: Job, image: Image, host: Host) -> CreateSpec:
        return CreateSpec(
            name=job.payload["name"],
            architecture=image.architecture,
            catalog_id=image.catalog_id,
            version=image.version,
            connection=handing.connection_for(image, host),
            type=image.type,  # type: ignore[arg-type]
            cpus=HELPER_CPUS,
            memory_mib=HELPER_MEMORY_MIB,
            start=False,
        )

    def step_watch(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        with driver_of(host) as driver:
            try:
                made = driver.read_job(str(claim.job.pk))
            except HostError as error:
                if error.kind != ErrorKind.NOT_FOUND:
                    raise
                return self._job_unknown(claim, driver)
        if not made.is_final:
            return Again(
                seconds=settings.VM_POLL_SECONDS,
                progress=10 + made.progress * 7 // 10,
                message=made.message or f"{host.name} is pulling it.",
            )
        failure = "" if made.succeeded else made.error or f"The host's job ended {made.state}."
        return Again(step="remove", progress=80, payload={"error": failure}, message="Tidying up.")

    def _job_unknown(self, claim: Claim, driver: Driver) -> Outcome:
        """The host knows no such job: the VM tells, or that there is none late enough."""
        if any(vm.name == claim.job.payload["name"] for vm in driver.list_vms()):
            return Again(step="remove", progress=80)
        if self._may_come(claim.job):
            return Again(seconds=max(settings.VM_POLL_SECONDS, 0.2))
        return Again(
            step="remove", payload={"error": "The host knows nothing of the pull. Try again."}
        )

    def _may_come(self, job: Job) -> bool:
        limit = settings.CREATE_CALL_SECONDS + settings.CREATE_DOUBT_SECONDS
        return timezone.now().timestamp() < job.payload["sent_at"] + limit

    def step_remove(self, claim: Claim) -> Outcome:
        outcome = super().step_remove(claim)
        return Again(step="look", progress=90) if isinstance(outcome, Done) else outcome

    def step_look(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        if error := claim.job.payload.get("error"):
            return Fail(error)
        inventory.refresh(host)
        image = Image.objects.get(pk=claim.job.payload["image"])
        if HostImage.objects.filter(cached(image), host=host).exists():
            return Done(message=f"{image.name} is cached.", result={"image": image.name})
        return Fail(
            f"{host.name} pulled the image but does not list it in its cache. Look whether its "
            "cache is on, and has room."
        )

    def undo(self, claim: Claim) -> Outcome:
        """A host's pull cannot be stopped: let it end, and remove the VM. The copy may stay."""
        host = self.host_of(claim.job)
        if host is None or not self._is_sent(claim.job):
            return Cancelled()
        pause = max(settings.VM_POLL_SECONDS, 0.2)
        with driver_of(host) as driver:
            try:
                ended = driver.read_job(str(claim.job.pk)).is_final
            except HostError as error:
                if error.kind != ErrorKind.NOT_FOUND:
                    raise
                ended = not self._may_come(claim.job)
            if self.remove_helper(claim, driver) or not ended:
                return Again(seconds=pause, message="Letting the host's pull end.")
        return Cancelled("Cancelled; nothing of it is left but what the host has cached.")


class DeleteHandler(CacheHandler):
    """`host.cache_delete`: looks once more who relies on it, deletes, and lists the cache."""

    first = "send"
    calls = frozenset({"send", "look"})
    cancellable = True

    def step_send(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        wanted = claim.job.payload
        rows = _copies(host, wanted["catalog_id"], wanted["version"])
        if going.mark(host, rows) < rows.count():
            told = _who_relies(host, wanted["catalog_id"], wanted["version"])
            return Fail(told or "Something relies on it now.")
        with driver_of(host) as driver, claim.sending():
            try:
                driver.delete_cached(wanted["catalog_id"], wanted["version"])
            except HostError as error:
                if error.kind != ErrorKind.NOT_FOUND:
                    raise
        return Again(step="look", progress=60, message="Deleted; having a look.")

    def step_look(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        inventory.refresh(host)
        wanted = claim.job.payload
        left = _copies(host, wanted["catalog_id"], wanted["version"]).count()
        if left:
            return Fail(f"{host.name} says that it is deleted, and still lists {left}.")
        return Done(message="It is not in the cache any more.")

    def failed(self, job: Job, error: str) -> None:
        rows = _copies_on(job.subject_id, job.payload["catalog_id"], job.payload["version"])
        going.unmark(job.subject_id, rows)

    def cancelled(self, job: Job) -> None:
        self.failed(job, "")


HANDLERS = {PULL: PullHandler(), DELETE: DeleteHandler(), SWEEP: SweepHandler()}
