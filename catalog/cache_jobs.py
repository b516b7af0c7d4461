"""The jobs on a host's cache: pull an image into it, delete from it, sweep up after a pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from catalog import going, handing
from catalog.caching import DELETE, PULL, REMOVED, SWEEP, copies_of_host, listed, who_relies_on
from catalog.models import HostImage, Image, cached
from hosts import inventory
from hosts.calls import HostHandler, driver_of
from hosts.drivers.base import CreateSpec, ErrorKind, HostError
from hosts.models import Host
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome

if TYPE_CHECKING:
    from hosts.drivers.base import Driver
    from jobs.claims import Claim
    from jobs.models import Job

HELPER_CPUS, HELPER_MEMORY_MIB = 1, 1024


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
            connection=handing.connection_for(image, host, self._limit(job)),
            type=image.type,  # type: ignore[arg-type]
            cpus=HELPER_CPUS,
            memory_mib=HELPER_MEMORY_MIB,
            start=False,
        )

    def _limit(self, job: Job) -> handing.Limit | None:
        """Return how fast the pulls of the job's batch may be together."""
        if rate := job.payload.get("mib_per_second"):
            return handing.Limit(rate, str(job.parent_id or job.pk))
        return None

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
        rows = listed(host, wanted["catalog_id"], wanted["version"])
        if going.mark(host, rows) < rows.count():
            told = who_relies_on(host, wanted["catalog_id"], wanted["version"])
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
        left = listed(host, wanted["catalog_id"], wanted["version"]).count()
        if left:
            return Fail(f"{host.name} says that it is deleted, and still lists {left}.")
        return Done(message="It is not in the cache any more.")

    def failed(self, job: Job, error: str) -> None:
        rows = copies_of_host(job.subject_id, job.payload["catalog_id"], job.payload["version"])
        going.unmark(job.subject_id, rows)

    def cancelled(self, job: Job) -> None:
        self.failed(job, "")


HANDLERS = {PULL: PullHandler(), DELETE: DeleteHandler(), SWEEP: SweepHandler()}
