"""Warm pools: VMs that are ready before somebody asks.

A VM of a pool is nobody's, has no lease and counts on nobody's quota until it is claimed. It takes
only room that nobody waits for, and makes way for whoever does.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from contextlib import suppress
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from accounts.actors import SYSTEM
from accounts.audit import audit, changed
from hosts.models import Health, HostHold
from jobs import bell
from jobs.queueing import enqueue, record_done
from orchestrator.db.clock import from_now
from orchestrator.db.models import RowLease
from orchestrator.refusals import Conflict, Invalid
from vms import access, ending, leases, queue, quotas
from vms.lifecycle import PLACER, announce
from vms.models import Placement, VirtualMachine, WarmPool
from vms.models.pools import LARGEST
from vms.states import State
from vms.templates import announce as announce_template
from vms.terms import slug
from vms.verbs.states import resume, suspend

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from vms.models import Template
    from vms.placement.rules import HostView

log = structlog.get_logger(__name__)

KEEPER = "vms.tasks.keep_pools"
LEASE = "warm-pools"
LEASE_SECONDS = 30.0
AFTER_FAILURE = timedelta(seconds=60)  # before another is made when one came to nothing
SLUG = 30  # characters of the template's name in that of its VMs
READY = {WarmPool.Kept.RUNNING: State.RUNNING, WarmPool.Kept.SUSPENDED: State.SUSPENDED}
ON_THE_WAY = (
    *(State.PENDING, State.CREATING, State.STARTING, State.RUNNING),
    *(State.SUSPENDING, State.SUSPENDED),
)


def set_pool(
    actor: Actor,
    template: Template,
    *,
    size: int | None = None,
    kept: str | None = None,
    quiet_from: time | None = None,
    quiet_until: time | None = None,
    clear_quiet: bool = False,
) -> WarmPool:
    """Keep `size` VMs of `template` ready, running or suspended; what is None stays.

    Between `quiet_from` and `quiet_until` (times of day, UTC) none is made; `clear_quiet` ends
    that. How much of the pool is kept ready is the operators' business, so it takes the right to
    act on everybody's VMs. Raises `Forbidden`, `NotFound`, `Invalid`, and `Conflict` for a revoked
    template.
    """
    actor.require("vms.manage_all")
    access.require_seen(actor, template)
    if template.revoked_at:
        raise Conflict("This template was revoked: nothing is made of it any more.")
    if size is not None and not 0 <= size <= LARGEST:
        raise Invalid.field("size", f"Give a number from 0 to {LARGEST}.")
    if kept is not None and kept not in WarmPool.Kept.values:
        raise Invalid.field("kept", f"Choose one of: {', '.join(WarmPool.Kept.values)}.")
    if (quiet_from is None) != (quiet_until is None):
        raise Invalid.field("quiet_until", "Give both the beginning and the end of quiet hours.")
    if quiet_from is not None and quiet_from == quiet_until:
        raise Invalid.field("quiet_until", "Quiet hours end at another time than they begin.")
    changes: dict[str, Any] = {"size": size, "kept": kept}
    changes = {name: value for name, value in changes.items() if value is not None}
    if quiet_from is not None or clear_quiet:
        changes |= {"quiet_from": quiet_from, "quiet_until": quiet_until}
    with transaction.atomic():
        actor.take()
        pool, _ = WarmPool.objects.get_or_create(template=template)
        WarmPool.objects.filter(pk=pool.pk).update(**changes)
        told = changed({name: getattr(pool, name) for name in changes}, changes)
        audit(actor, "template.pool_set", f"template:{template.pk}", template.name, data=told)
        announce_template(template)
    pool.refresh_from_db()
    return pool


def pool_of(template: Template) -> WarmPool:
    """Return the pool of `template`; one of size 0, which is not stored, when it has none."""
    found = WarmPool.objects.select_related("template").filter(template=template).first()
    return found or WarmPool(template=template)


def ready(pool: WarmPool) -> QuerySet[VirtualMachine]:
    """Return the VMs of a pool that may be claimed now, the oldest first."""
    held = HostHold.objects.live().filter(host=OuterRef("host"))
    vms = VirtualMachine.objects.filter(
        pool=pool,
        state=READY[WarmPool.Kept(pool.kept)],
        made_from=made_from(pool.template),
        host__status__health=Health.HEALTHY,
        missing_since=None,
        problem="",
    ).exclude(Exists(held))
    if pool.kept == WarmPool.Kept.RUNNING:
        vms = vms.exclude(ip_address="")
    return vms.order_by("pk")


def made_from(template: Template) -> str:
    """Return what VMs of `template` are made from, as a digest: a pool's VM of another is stale."""
    parts = {
        "images": sorted(str(pk) for pk in template.images.usable().values_list("pk", flat=True)),
        "clone_of": template.clone_of,
        "size": [template.cpus, template.memory_mib, template.disk_gib],
        "host_tags": sorted(template.host_tags),
        "os": template.os,
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# Claiming ---------------------------------------------------------------------------------------


def pool_for(wanted: VirtualMachine) -> WarmPool | None:
    """Return the pool that could have what `wanted` describes, ready or not."""
    template = wanted.template
    as_made = wanted.start and all(
        getattr(wanted, name) == getattr(template, name)
        for name in ("cpus", "memory_mib", "disk_gib", "clone_of")
    )
    pool = as_made and WarmPool.objects.filter(template=template, size__gt=0).first()
    if not pool:
        return None
    pool.template = template
    return pool


def _is_where_wanted(vm: VirtualMachine, wanted: VirtualMachine) -> bool:
    host = vm.host
    if wanted.wanted_host_id and vm.host_id != wanted.wanted_host_id:
        return False
    if not (wanted.wanted_architecture or wanted.wanted_tags):
        return True
    if host is None or wanted.wanted_architecture not in ("", host.status.architecture):
        return False
    tags = {tag.casefold() for tag in host.tags}
    return not wanted.wanted_tags or not tags.isdisjoint(wanted.wanted_tags)


def claim(actor: Actor, pool: WarmPool, wanted: VirtualMachine) -> VirtualMachine | None:
    """Give the asker a VM that is ready instead of making `wanted`; None when there is none.

    In the transaction of the request, which has taken the rights. One conditional UPDATE makes it
    theirs, with the name, lease and grant of `wanted`. Raises `IntegrityError` for a name in use.
    """
    if not quotas.take(wanted) or queue.state().held_at:
        return None  # it waits in the queue, like everybody
    for vm in ready(pool)[:5]:
        if not _is_where_wanted(vm, wanted):
            continue
        if _take(vm, pool, wanted):
            WarmPool.objects.filter(pk=pool.pk).update(hits=F("hits") + 1)
            bell.ring_tick(KEEPER)
            return _hand_over(actor, vm)
    WarmPool.objects.filter(pk=pool.pk).update(misses=F("misses") + 1)
    return None


def _take(vm: VirtualMachine, pool: WarmPool, wanted: VirtualMachine) -> bool:
    mine = {
        name: getattr(wanted, name)
        for name in ("name", "grant", "token", "requested_by", "share", "tags", "priority")
    }
    return bool(
        VirtualMachine.objects.filter(pk=vm.pk, pool=pool, state=vm.state).update(
            **mine,
            pool=None,
            lease_seconds=wanted.lease_seconds,
            waits_until=None,
            reason="It was ready.",
        )
    )


def _hand_over(actor: Actor, vm: VirtualMachine) -> VirtualMachine:
    """Begin the lease of a claimed VM, and let it run; its job says when it does."""
    vm = VirtualMachine.objects.select_related("template", "host").get(pk=vm.pk)
    leases.begin(vm)
    if vm.state == State.SUSPENDED:
        job = resume(actor, vm)
    else:
        result = {"vm": str(vm.pk), "name": vm.name}
        job = record_done("vm.claim", vm.subject, actor, result=result, message="It was ready.")
    VirtualMachine.objects.filter(pk=vm.pk).update(create_job=job)
    vm.refresh_from_db()
    return vm


# Keeping ----------------------------------------------------------------------------------------


def keep() -> None:
    """Discard what is stale or too much, and make what is missing. Safe to run twice at once."""
    holder = uuid.uuid4()
    while RowLease.take(LEASE, holder, LEASE_SECONDS):
        for pool in WarmPool.objects.select_related("template"):
            try:
                _keep(pool)
            except Exception:  # the next round tries again; the other pools must not wait for it
                log.exception("pool.failed", pool=str(pool.pk))
        if RowLease.release(LEASE, holder):
            return


def _keep(pool: WarmPool) -> None:
    source = made_from(pool.template)
    wanted = 0 if pool.template.revoked_at else pool.size
    members = list(
        VirtualMachine.objects.open()
        .filter(pool=pool)
        .exclude(state=State.DELETING)
        .select_related("template", "create_job", "host__status")
        .order_by("pk")
    )
    drained = set(
        HostHold.objects.live().filter(kind=HostHold.Kind.DRAIN).values_list("host", flat=True)
    )
    good = []
    for vm in members:
        if why := _why_discard(vm, pool, source, drained):
            _discard(vm, why)
        else:
            good.append(vm)
    for vm in good[wanted:]:
        _discard(vm, "The warm pool is smaller now.")
    for vm in good[:wanted]:
        if (
            pool.kept == WarmPool.Kept.SUSPENDED
            and vm.state == State.RUNNING
            and vm.create_job
            and vm.create_job.is_final
        ):
            with suppress(Conflict):  # it changes just now: the next round looks again
                suspend(SYSTEM, vm)
    missing = wanted - len(good)
    if missing > 0 and not _is_quiet(pool, timezone.now()) and not _failed_lately(pool):
        for _ in range(missing):
            _make(pool, source)


def _why_discard(vm: VirtualMachine, pool: WarmPool, source: str, drained: set[UUID]) -> str:
    if pool.template.revoked_at:
        return "Its template was revoked."
    if vm.made_from != source:
        return "Its template has changed since it was made."
    if vm.host_id in drained:
        return "Its host is being drained."
    if vm.state not in ON_THE_WAY or vm.missing_since or vm.problem:
        return "It is not what a warm pool keeps ready."
    if vm.state == State.SUSPENDED and pool.kept == WarmPool.Kept.RUNNING:
        return "The warm pool keeps its VMs running now."
    return ""


def _discard(vm: VirtualMachine, why: str) -> None:
    """End a VM that is still the pool's; one that was claimed just now is let alone."""
    with transaction.atomic():
        still = VirtualMachine.objects.select_for_update(no_key=True).filter(
            pk=vm.pk, pool=vm.pool_id
        )
        if still.values_list("pk").first():
            vm.refresh_from_db()
            with suppress(Conflict):  # it ends already
                ending.end(vm, reason=why)


def _failed_lately(pool: WarmPool) -> bool:
    failed = VirtualMachine.objects.filter(pool=pool, state=State.FAILED)
    return failed.filter(ended_at__gt=from_now(-AFTER_FAILURE.total_seconds())).exists()


def _is_quiet(pool: WarmPool, now: datetime) -> bool:
    if pool.quiet_from is None or pool.quiet_until is None:
        return False
    at = now.time()
    if pool.quiet_from < pool.quiet_until:
        return pool.quiet_from <= at < pool.quiet_until
    return at >= pool.quiet_from or at < pool.quiet_until  # it spans midnight


def _make(pool: WarmPool, source: str) -> None:
    """Have another VM made, after everybody who waits (`vms.placement`)."""
    template = pool.template
    with transaction.atomic():
        vm = VirtualMachine(
            name=f"warm-{slug(template.name, SLUG)}-{secrets.token_hex(4)}",
            template=template,
            pool=pool,
            made_from=source,
            cpus=template.cpus,
            memory_mib=template.memory_mib,
            disk_gib=template.disk_gib,
            lease_seconds=template.default_lease_seconds,
            priority=0,
            clone_of=template.clone_of,
            reason="It will be kept ready.",
        )
        vm.create_job = enqueue("vm.create", vm.subject, SYSTEM, message=vm.reason, parked=True)
        with suppress(IntegrityError):  # a name by chance: the next round makes another
            with transaction.atomic():
                vm.save(force_insert=True)
            announce(vm)
            bell.ring_tick(PLACER)


# Making way -------------------------------------------------------------------------------------


def make_way(hosts: Mapping[UUID, HostView], needed: Mapping[UUID, Mapping[str, int]]) -> None:
    """End VMs of pools on the host where fewest have to go, so that a request fits; else none.

    `needed` is what it takes of each host that it could use.
    """
    idle: dict[UUID, list[Placement]] = {}
    members = (
        Placement.objects.open()
        .filter(current=True, vm__pool__isnull=False, host__in=needed)
        .filter(vm__state__in=[State.RUNNING, State.SUSPENDED, State.DELETING])
        .select_related("vm__template", "vm__create_job", "vm__host")
    )
    for placement in members.order_by("-pk"):
        idle.setdefault(placement.host_id, []).append(placement)
    best: list[VirtualMachine] | None = None
    for host_id, placements in idle.items():
        going = _enough(placements, hosts[host_id].free, needed[host_id])
        if going is not None and (best is None or len(going) < len(best)):
            best = going
    for vm in best or ():
        _discard(vm, "Somebody waits for its room.")


def _enough(
    placements: list[Placement], free: Mapping[str, int], needed: Mapping[str, int]
) -> list[VirtualMachine] | None:
    """Return which VMs have to go beside those that are going already; None: all do not do."""
    room = dict(free)
    going = []
    for placement in sorted(placements, key=lambda one: one.vm.state != State.DELETING):
        if placement.vm.state != State.DELETING:
            going.append(placement.vm)
        for name in room:
            room[name] += placement.size.of(name)
        if all(need <= room[name] for name, need in needed.items() if need):
            return going
    return None
