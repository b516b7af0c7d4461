"""A pool of three enrolled simulated hosts, a template, and a worker that runs what is due."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from accounts.models import User
from catalog import images, sources
from hosts import enrolment
from jobs import running
from jobs.models import Job
from vms import grants, placement, requests, templates
from vms.models import Grant, Template, VirtualMachine

if TYPE_CHECKING:
    from catalog.models import Image
    from hosts.models import Host
    from tests.support.simulation import Simulation


class Worker:
    """Runs due jobs in this thread, as the real worker would, and lets no time pass unneeded."""

    def round(self) -> bool:
        """Place what fits and run each due job once; return whether there was anything to do."""
        placed = placement.place_pending()
        due = list(Job.objects.claimable().values_list("pk", flat=True))
        for job_id in due:
            running.run_job(job_id)
        return bool(placed or due)

    def until(self, condition: Any, seconds: float = 20) -> None:
        """Work until `condition()` holds."""
        end = monotonic() + seconds
        while not condition():
            if monotonic() > end:
                states = list(Job.objects.values_list("kind", "step", "state", "message", "error"))
                raise AssertionError(f"It did not happen within {seconds} s. Jobs: {states}")
            self.round()

    def finish(self, job: Job, seconds: float = 20) -> Job:
        """Work until `job` has ended."""

        def ended() -> bool:
            job.refresh_from_db()
            return job.is_final

        self.until(ended, seconds)
        return job


@pytest.fixture
def worker() -> Worker:
    return Worker()


@dataclass
class Pool:
    """What a test of VMs needs: hosts, an image, a template, and people."""

    simulation: Simulation
    alice: Actor
    bob: Actor
    hosts: list[Host] = field(default_factory=list)
    image: Image | None = None
    template: Template | None = None
    grant: Grant | None = None

    def ask(self, actor: Actor | None = None, **options: Any) -> VirtualMachine:
        options.setdefault("template", self.template)
        return requests.request_vm(actor or self.bob, **options)


@pytest.fixture
def pool(
    transactional_db: None, simulation: Simulation, alice: User, bob: User, settings: Any
) -> Pool:
    """Three clean hosts, a granted template for Bob."""
    settings.VM_POLL_SECONDS = 0.02
    settings.CREATE_DOUBT_SECONDS = 0.5
    settings.CREATE_CALL_SECONDS = settings.CLONE_CALL_SECONDS = 2.0
    simulation.reset()
    made = Pool(simulation, Actor(user=alice), Actor(user=bob))
    for number in (1, 2, 3):
        made.hosts.append(
            enrolment.enrol(
                made.alice,
                name=f"mac-{number}",
                url=simulation.host_url(number),
                username="root@localhost",
                password="simulated",
            )
        )
    source = sources.add_source(
        made.alice, name="Catalog", connection="host=ci:pw@http://127.0.0.1:9"
    )
    made.image = images.add_image(
        made.alice,
        source=source,
        catalog_id="ubuntu",
        version="24.04",
        architecture="arm64",
        type="pvm",
    )
    made.template = templates.create_template(
        made.alice,
        name="ubuntu-ci",
        images=[made.image],
        cpus=2,
        memory_mib=2048,
        disk_gib=64,
        default_lease_seconds=3600,
        maximum_lease_seconds=7200,
    )
    made.grant = grants.grant_template(made.alice, template=made.template, user=bob)
    return made


def reread(vm: VirtualMachine) -> VirtualMachine:
    """Return the VM as the database has it now."""
    return VirtualMachine.objects.select_related("host", "lease", "create_job").get(pk=vm.pk)
