"""Making a foreign VM ours, and letting one of ours go (docs/decisions/0012-adoption.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import audit
from catalog import caching
from hosts import capacity, ownership
from hosts.calls import driver_of
from hosts.capacity import Size
from hosts.drivers.base import ErrorKind, HostError
from hosts.models import Host
from hosts.registering import unregister_key
from jobs.models import Job
from jobs.outcomes import Again, Done, Fail, Outcome
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound
from vms import access, leases, placements
from vms.lifecycle import announce, move, note_problem
from vms.marks import mark_of
from vms.models import Placement, Template, VirtualMachine
from vms.states import AT_REST, State
from vms.terms import MAXIMUM, NAME, checked_lease, checked_name, heaviest_role, name_taken, slug
from vms.verbs.asking import ask_in_place, work_key
from vms.verbs.handling import VerbHandler
from vms.verbs.resizing import KEEPS_ITS_NAME, MAXIMUM_SENT, RenameHandler

if TYPE_CHECKING:
    from accounts.models import User
    from hosts.drivers.base import RemoteVM
    from hosts.models import HostVM
    from jobs.claims import Claim
    from vms.models import Grant

RIGHTS = ("hosts.manage", "vms.manage_all")  # it changes hands, and is nobody's before
LONGEST_NAME = 200
LATER = (
    f"{KEEPS_ITS_NAME}, which renames only stopped VMs. It is ours all the same, and is renamed "
    "when it is seen stopped."
)


def adopt(
    actor: Actor,
    host: Host,
    *,
    host_vm_id: str,
    template: Template,
    owner: User | None = None,
    name: str = "",
    lease_seconds: int | None = None,
) -> Job:
    """Make a foreign VM of `host` one of ours, of `template`, for `owner` (by default the actor).

    What it takes is what its host listed last. In one transaction its use stops to be foreign, the
    host is charged, the owner's grant is taken and the lease begins; the job then puts our mark
    into its name on the host. A stopped VM is charged in full, so that it can always start again.
    Raises `Forbidden`, `NotFound`, `Invalid`, or `Conflict` for one that is ours already, is on its
    way to another state, is cloned by its name, or does not fit.
    """
    _require(actor)
    if not actor.may_use_template(template.pk):
        raise Forbidden("This token is narrowed to other templates.", code="token_scope")
    owner = owner or actor.user
    if owner is None:
        raise Invalid.field("owner", "Say whose VM it shall be.")
    with transaction.atomic():
        present = Host.objects.select_for_update(no_key=True).present().filter(pk=host.pk)
        if not present.values_list("pk").first():
            raise NotFound("This host was removed from the pool.")
        listed = _claim(host, host_vm_id)
        actor.take()
        _require(actor)
        grant = _grant_of(owner, template)
        state = _state_of(listed)
        vm = VirtualMachine(
            name=checked_name(name.strip() or _name_of(listed)),
            template=template,
            grant=grant,
            requested_by=owner,
            share=(grant and grant.role) or heaviest_role(owner),
            cpus=listed.cpus,
            memory_mib=listed.memory_mib,
            # Some hosts do not tell how large a disk is: then it is taken for the template's.
            disk_gib=listed.disk_gib or template.disk_gib,
            start=state == State.RUNNING,
            lease_seconds=checked_lease(template, grant, lease_seconds),
            desired_state=state,
            state=state,
            reason=f"Adopted by {actor.name}.",
            host=host,
            observed_state=listed.state,
            observed_at=listed.seen_at,
            ip_address=listed.ip_address,
        )
        size = Size(vm.cpus, vm.memory_mib, vm.disk_gib, macos_slots=int(listed.type == "macvm"))
        if not capacity.charge(host.pk, size):
            raise Conflict(
                f"{host.name} has no room for it: a VM of ours is charged in full, stopped or not, "
                "so that it can always start again. Make room there first.",
                code="no_room",
            )
        vm.create_job = _enqueue(vm, actor)
        try:
            with transaction.atomic():
                vm.save(force_insert=True)
        except IntegrityError:
            raise name_taken(vm.name) from None
        Placement.objects.create(
            vm=vm,
            host=host,
            host_name=listed.name,
            plain_name=listed.name,
            host_vm_id=listed.host_vm_id,
            cpus=size.cpus,
            memory_mib=size.memory_mib,
            disk_gib=size.disk_gib,
            macos_slots=size.macos_slots,
        )
        leases.begin(vm)
        audit(
            actor,
            "vm.adopted",
            vm.subject,
            vm.name,
            data={
                "host": host.name,
                "host_name": listed.name,
                "host_vm_id": listed.host_vm_id,
                "template": template.name,
                "owner": owner.username,
                "grant": str(grant.pk) if grant else None,
            },
        )
        announce(vm)
        return vm.create_job


def _require(actor: Actor) -> None:
    for right in RIGHTS:
        actor.require(right)


def _claim(host: Host, host_vm_id: str) -> HostVM:
    """Take the VM out of what is foreign, or say why it cannot be adopted."""
    listed = ownership.claim(host.pk, host_vm_id)
    if listed is None:
        if host.listed_vms.filter(host_vm_id=host_vm_id).exists():
            raise Conflict("This VM is one of ours already.")
        raise NotFound(f"{host.name} lists no such VM. Look at the host again.")
    mark = mark_of(listed.name)
    if mark and Placement.objects.filter(mark=mark, let_go_at=None).exists():
        raise Conflict("It is what an attempt of ours left there, and is being removed.")
    if Job.objects.open().filter(unique_key=unregister_key(host, host_vm_id)).exists():
        raise Conflict("It is being unregistered. Wait for that to end, or cancel it.")
    if caching.is_helper(listed.name):
        raise Conflict("It was made to pull an image into the cache, and is being removed.")
    if len(listed.name) > LONGEST_NAME:
        raise Conflict(f"Its name has more than {LONGEST_NAME} characters. Rename it on its host.")
    names = Template.objects.live().filter(clone_of=listed.name).values_list("name", flat=True)
    if templates := ", ".join(names[:5]):
        raise Conflict(
            f"It is what VMs of {templates} are cloned from, by its name, which changes when it is "
            "adopted. Clone it to another name first, or leave it as it is.",
            code="in_use",
        )
    if VirtualMachine.objects.filter(clone_of=listed.name, state__in=State.queued()).exists():
        raise Conflict("A VM is being cloned from it. Wait until that is made.", code="in_use")
    for field, largest in MAXIMUM.items():
        if getattr(listed, field) > largest or (field != "disk_gib" and not getattr(listed, field)):
            raise Conflict("Its host tells no size of it that can be charged. Look at it there.")
    return listed


def _state_of(listed: HostVM) -> State:
    if listed.state not in AT_REST:
        states = ", ".join(sorted(AT_REST))
        raise Conflict(f"It is {listed.state or 'in no known state'}; it must be one of: {states}.")
    return State(listed.state)


def _name_of(listed: HostVM) -> str:
    return listed.name if NAME.fullmatch(listed.name) else slug(listed.name)


def _grant_of(owner: User, template: Template) -> Grant | None:
    """Take the grant by which the owner may use the template, as if they asked for the VM."""
    theirs = Actor(user=owner)
    try:
        theirs.take()
        theirs.require("vms.use")
        return access.take_template(theirs, template)[0]
    except (Forbidden, NotFound) as refusal:
        raise Conflict(
            f"{owner.username} may not have a VM of {template.name} now. They would be told: "
            f"{refusal.message}",
            code=refusal.code if isinstance(refusal, Forbidden) else "no_grant",
        ) from None


def _enqueue(vm: VirtualMachine, actor: Actor) -> Job:
    return enqueue(
        "vm.adopt", vm.subject, actor, lane=f"host:{vm.host_id}", unique_key=work_key(vm)
    )


def rename_when_stopped(placement: Placement, state: str) -> None:
    """Have an adopted VM renamed that could not be before, now that its host lists it stopped.

    Level-triggered: also after a job that was cancelled. A clear no while it is stopped is final.
    """
    vm = placement.vm
    if state != "stopped" or vm.state != State.STOPPED or not placement.current:
        return
    jobs = Job.objects.about(vm.subject)
    if jobs.open().exists() or jobs.filter(kind="vm.adopt", state=Job.State.FAILED).exists():
        return
    _enqueue(vm, SYSTEM)


class AdoptHandler(RenameHandler):
    """`vm.adopt`: gives an adopted VM a name with our mark on its host.

    It is ours before and without that, matched by its id there.
    """

    def troubled(
        self, claim: Claim, vm: VirtualMachine, placement: Placement, error: HostError
    ) -> Outcome:
        if error.kind == ErrorKind.REJECTED and vm.state != State.STOPPED:
            claim.log(f"{placement.host.name}: {error.message}")
            return Done(
                message=LATER,
                result={"name": vm.name, "host_name": placement.host_name},
                effect=lambda: note_problem(vm, LATER),
            )
        return super().troubled(claim, vm, placement, error)

    def failed(self, job: Job, error: str) -> None:
        note_problem(self.vm_of(job), f"{KEEPS_ITS_NAME}: {error}")


def let_go(actor: Actor, vm: VirtualMachine) -> Job:
    """Manage `vm` no longer, without deleting it: it becomes foreign again, without our mark.

    Its host gives it the name that it was adopted with, or one made from its name here. Raises
    `Forbidden`, or `Conflict` while it is on its way to another state or other work is under way.
    """
    _require(actor)
    return ask_in_place(actor, vm, "let_go", AT_REST)


class LetGoHandler(VerbHandler):
    """`vm.let_go`: takes our mark out of its name, sees that it is so, and closes the placement."""

    states = AT_REST
    first = "send"
    calls = frozenset({"send"})
    lost = "repeat"
    cancellable = True

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        if not placement.plain_name:
            # From now on matched by its id: a list between here and the end finds it still ours.
            placement.plain_name = slug(vm.name)
            Placement.objects.filter(pk=placement.pk).update(plain_name=placement.plain_name)
        sent = int(claim.job.payload.get("sent", 0))
        with driver_of(placement.host) as driver:
            seen = driver.read_vm(placement.host_vm_id)
            if mark_of(seen.name) != placement.mark:
                return Done(
                    message=f"It is {seen.name} on {placement.host.name}, and not ours any more.",
                    result={"name": vm.name, "host_name": seen.name},
                    effect=lambda: _finish(vm, placement, seen),
                )
            if sent >= MAXIMUM_SENT:
                return Fail("The host took the new name each time, and still shows the old one.")
            with claim.sending():
                driver.rename(placement.host_vm_id, placement.plain_name)
        return Again(payload={"sent": sent + 1}, progress=50, message="Renamed; having a look.")


def _finish(vm: VirtualMachine, placement: Placement, remote: RemoteVM) -> None:
    with transaction.atomic():
        if placements.let_go(placement, remote) and move(
            vm, State.FORGOTTEN, expect=AT_REST, reason="It was let go.", ip_address=""
        ):
            audit(
                SYSTEM,
                "vm.let_go",
                vm.subject,
                vm.name,
                data={"host": placement.host.name, "host_name": remote.name},
            )
            return
        transaction.set_rollback(True)  # it is being deleted meanwhile, which goes on
