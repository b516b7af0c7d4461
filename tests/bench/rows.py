"""Rows written straight into the database. Called in a Django process by `Stage.inside`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from accounts.actors import Actor
from accounts.models import Role, User
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
KINDS = ("token", "grant", "membership", "template", "image", "user")  # of revocations
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


def revocable(spared: str) -> list[dict[str, Any]]:
    """Make one of each that may be revoked, with who relies on it; return a `Target` for each.

    Each has an account, a template and an image of its own. `spared` is a template of Bob's.
    """
    bob = Actor(user=User.objects.get(username="bob"))
    _, other = create_token(bob, name=spared, scopes=["vms"])
    return [_revocable(kind, other) for kind in KINDS]


def _revocable(kind: str, spared: str) -> dict[str, Any]:
    user = User.objects.create_user(username=f"{kind}-user")
    user.groups.set(Group.objects.filter(name="Developer"))
    role = Role.objects.create(group=Group.objects.create(name=f"{kind}-role"), permissions=[])
    user.groups.add(role.group)
    source = CatalogSource.objects.get(name="catalog")
    image = Image.objects.create(
        source=source, catalog_id=f"{kind}-image", version="1", architecture="arm64", type="pvm"
    )
    made = Template.objects.create(
        name=f"{kind}-template",
        cpus=CPUS,
        memory_mib=MEMORY_MIB,
        disk_gib=DISK_GIB,
        default_lease_seconds=3600,
        maximum_lease_seconds=7200,
    )
    made.images.set([image])
    whose: dict[str, Any] = {"role": role} if kind == "membership" else {"user": user}
    grant = Grant.objects.create(template=made, **whose)
    actor = Actor(user=user)
    tokens = [
        create_token(actor, name=f"pipeline-{number}", scopes=["vms"])
        for number in range(1 if kind == "token" else 3)
    ]
    paths = {
        "token": f"tokens/{tokens[0][0].pk}/revoke/",
        "grant": f"grants/{grant.pk}/revoke/",
        "template": f"templates/{made.pk}/revoke/",
        "image": f"images/{image.pk}/revoke/",
        "membership": f"users/{user.pk}/",
        "user": f"users/{user.pk}/",
    }
    changes: dict[str, dict[str, Any]] = {
        "membership": {"roles": ["Developer"]},
        "user": {"active": False},
    }
    return {
        "kind": kind,
        "account": user.username,
        "template": made.name,
        "tokens": [text for _, text in tokens],
        "spared": spared,
        "method": "PATCH" if kind in changes else "POST",
        "path": f"/api/v2/{paths[kind]}",
        "body": {"running_vms": "delete", **changes.get(kind, {})},
    }


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
