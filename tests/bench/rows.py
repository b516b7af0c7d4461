"""Rows written straight into the database. Called in a Django process by `Stage.inside`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from accounts.actors import Actor
from accounts.models import User
from accounts.roles import sync_shipped_roles
from accounts.tokens import create_token
from catalog.models import CatalogSource, Image
from hosts.drivers import normalise_url
from hosts.models import Health, Host, HostCapacity, HostHold, HostStatus
from jobs.models import Job
from jobs.queueing import PARKED
from vms.models import Grant, Lease, Placement, Template, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from datetime import datetime

BATCH = 1000
CPUS, MEMORY_MIB, DISK_GIB = 2, 2048, 20


def accounts() -> dict[str, str]:
    """Make an administrator and a developer; return their tokens, and a session's cookie."""
    sync_shipped_roles()
    made: dict[str, str] = {}
    for name, role in (("alice", "Administrator"), ("bob", "Developer")):
        user = User.objects.create_user(username=name)
        user.groups.set(Group.objects.filter(name=role))
        _, made[name] = create_token(Actor(user=user), name="bench", scopes=["admin"])
    made["cookie"] = _session(User.objects.get(username="alice"))
    return made


def _session(user: User) -> str:
    browser = Client()
    browser.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[0])
    return f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"


def template(name: str, *, host_tags: list[str] | None = None) -> str:
    """Make a template that Bob may use; return its id."""
    source, _ = CatalogSource.objects.get_or_create(
        name="catalog", defaults={"connection": "host=u:p@http://127.0.0.1:9"}
    )
    image, _ = Image.objects.get_or_create(
        source=source, catalog_id="ubuntu", version="24.04", architecture="arm64", type="pvm"
    )
    made = Template.objects.create(
        name=name,
        cpus=CPUS,
        memory_mib=MEMORY_MIB,
        disk_gib=DISK_GIB,
        host_tags=host_tags or [],
        default_lease_seconds=3600,
        maximum_lease_seconds=7200,
    )
    made.images.set([image])
    Grant.objects.create(template=made, user=User.objects.get(username="bob"))
    return str(made.pk)


def tokens(count: int) -> list[dict[str, str]]:
    """Make more tokens of Bob; return their ids and clear texts."""
    bob = Actor(user=User.objects.get(username="bob"))
    made = [create_token(bob, name=f"pipeline-{number}", scopes=["vms"]) for number in range(count)]
    return [{"id": str(token.pk), "text": text} for token, text in made]


def grant_of(template_name: str) -> str:
    """Return the id of Bob's grant for a template."""
    return str(Grant.objects.get(template__name=template_name).pk)


def cordon() -> None:
    """Let no host take another VM."""
    HostHold.objects.bulk_create(
        [
            HostHold(host=host, kind=HostHold.Kind.CORDON, reason="bench")
            for host in Host.objects.present()
        ]
    )


def pool(count: int, simulator_url: str = "http://127.0.0.1:9", *, seen: bool = False) -> None:
    """Make hosts: new ones that a poll has to look at, or ones that were `seen` and have room."""
    now = timezone.now()
    first = Host.objects.count() + 1
    hosts = [
        Host(
            name=f"mac-{number}",
            url=normalise_url(f"{simulator_url}/h/{number}"),
            username="root@localhost",
            password="simulated",
            hardware_id=f"bench-{number}",
        )
        for number in range(first, first + count)
    ]
    Host.objects.bulk_create(hosts, BATCH)
    if not seen:
        HostStatus.objects.bulk_create([HostStatus(host=host) for host in hosts], BATCH)
        HostCapacity.objects.bulk_create([HostCapacity(host=host) for host in hosts], BATCH)
        return
    HostStatus.objects.bulk_create(
        [
            HostStatus(
                host=host,
                # Some are ill, so that the lists of the ill are full.
                health=Health.UNREACHABLE if number % 100 == 99 else Health.HEALTHY,
                architecture="x86_64" if number % 10 == 9 else "arm64",
                changed_at=now,
                last_seen_at=now,
                latency_ms=float(number % 50),
                devops_version="0.9.14",
                os_name="macOS",
                inventory_at=now,
                next_poll_at=now + timedelta(days=1),
            )
            for number, host in enumerate(hosts)
        ],
        BATCH,
    )
    HostCapacity.objects.bulk_create(
        [
            HostCapacity(
                host=host,
                cpus_total=64,
                memory_mib_total=262_144,
                disk_gib_total=8_000,
                disk_gib_free=8_000,
                macos_slots_total=2,
            )
            for host in hosts
        ],
        BATCH,
    )


def pending(count: int, template_id: str) -> None:
    """Make VMs that wait for a host, each with its parked job."""
    vms, jobs = _wishes(count, template_id, 1)
    Job.objects.bulk_create(jobs, BATCH)
    VirtualMachine.objects.bulk_create(vms, BATCH)


def _wishes(count: int, template_id: str, first: int) -> tuple[list[VirtualMachine], list[Job]]:
    wanted = Template.objects.get(pk=template_id)
    bob = User.objects.get(username="bob")
    grant = Grant.objects.get(template=wanted, user=bob)
    vms = [
        VirtualMachine(
            name=f"build-{number}",
            template=wanted,
            grant=grant,
            requested_by=bob,
            cpus=wanted.cpus,
            memory_mib=wanted.memory_mib,
            disk_gib=wanted.disk_gib,
            lease_seconds=3600,
        )
        for number in range(first, first + count)
    ]
    jobs = [
        Job(kind="vm.create", subject=vm.subject, step="place", run_after=PARKED, actor=bob)
        for vm in vms
    ]
    for vm, job in zip(vms, jobs, strict=True):
        vm.create_job = job
    return vms, jobs


def machines(count: int, template_id: str) -> None:
    """Make VMs as a pool in use has them: of 20, 17 run, one waits, one failed, one is gone."""
    now = timezone.now()
    hosts = list(Host.objects.order_by("pk").defer("password", "api_key"))
    vms, jobs = _wishes(count, template_id, VirtualMachine.objects.count() + 1)
    placements: list[Placement] = []
    leases: list[Lease] = []
    for number, (vm, job) in enumerate(zip(vms, jobs, strict=True)):
        vm.state = _LIVES.get(number % 20, State.RUNNING)
        if vm.state == State.PENDING:
            continue
        host = hosts[number % len(hosts)]
        job.state = Job.State.FAILED if vm.state == State.FAILED else Job.State.DONE
        job.run_after = job.finished_at = now
        if vm.state == State.RUNNING:
            vm.host = host
            vm.observed_state, vm.observed_at = "running", now
            vm.ip_address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            vm.problem = "It got no IP address within 120 seconds." if number % 500 == 7 else ""
            leases.append(_lease(vm, now, number))
        else:
            vm.ended_at = now
        placements.append(_placement(vm, host, now))
    Job.objects.bulk_create(jobs, BATCH)
    VirtualMachine.objects.bulk_create(vms, BATCH)
    Placement.objects.bulk_create(placements, BATCH)
    Lease.objects.bulk_create(leases, BATCH)


_LIVES = {0: State.PENDING, 1: State.FAILED, 2: State.DELETED}


def _lease(vm: VirtualMachine, now: datetime, number: int) -> Lease:
    return Lease(vm=vm, started_at=now, ends_at=now + timedelta(minutes=60 + number))


def _placement(vm: VirtualMachine, host: Host, now: datetime) -> Placement:
    return Placement(
        vm=vm,
        host=host,
        host_name=f"{vm.name}-bench",
        host_vm_id=str(vm.pk),
        cpus=vm.cpus,
        memory_mib=vm.memory_mib,
        disk_gib=vm.disk_gib,
        closed_at=None if vm.state == State.RUNNING else now,
    )


def forget_pending() -> int:
    """Remove VMs that wait, with their jobs; return how many there were."""
    waiting = VirtualMachine.objects.filter(state=State.PENDING)
    jobs = list(waiting.values_list("create_job", flat=True))
    count = len(jobs)
    waiting.delete()
    Job.objects.filter(pk__in=jobs).delete()
    return count
