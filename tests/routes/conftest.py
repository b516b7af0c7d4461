"""One object of each kind for Bob and one for Alice, so that every route has something to name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from accounts import invitations, tokens, users
from accounts.actors import Actor
from accounts.models import Role, User
from catalog import images, sources
from deployments import dictionaries, environments, granting, packages
from deployments.models import Block, Step, Task
from events.models import Delivery, Webhook
from hosts.models import EnrolmentToken, Health, Host, HostCapacity, HostHold, HostStatus
from jobs.models import Job
from vms import asking, grants, quotas, requests, templates
from vms.models import Placement, Receipt, Residue, Snapshot


@dataclass
class Thing:
    """The ids that a route's address may need, of one owner."""

    ids: dict[str, Any]


@dataclass
class World:
    people: dict[str, User]
    own: Thing
    other: Thing


@pytest.fixture
def world(alice: User, olga: User, bob: User, audrey: User, charlie: User) -> World:
    people = {
        "nobody": charlie,
        "developer": bob,
        "auditor": audrey,
        "operator": olga,
        "administrator": alice,
    }
    root = Actor(user=alice)
    host = Host.objects.create(name="mac-1", url="http://127.0.0.1:9/api", added_by=alice)
    HostStatus.objects.create(host=host, health=Health.HEALTHY, architecture="arm64")
    HostCapacity.objects.create(host=host, cpus_total=8, memory_mib_total=8192, disk_gib_total=500)
    window = HostHold.objects.create(
        host=host, kind="maintenance", reason="test", starts_at="2099-01-01T00:00:00Z"
    )
    source = sources.add_source(root, name="catalog", connection="host=u:p@http://127.0.0.1:9")
    image = images.add_image(
        root,
        source=source,
        catalog_id="ubuntu",
        version="24.04",
        architecture="arm64",
        type="pvm",
    )
    package = packages.create_package(root, {"application": "Shop", "version": "1.0"})
    environment = environments.create_environment(root, name="Staging", members=[{"host": host}])
    robot = users.create_user(root, username="robot", roles=[], kind=User.Kind.SERVICE)
    invitation, _ = invitations.invite(root, username="guest", roles=[])
    shared = {
        "invitation": invitation.pk,
        "session": uuid4(),  # tests/accounts/test_signin.py has real ones
        "service": robot.pk,
        "host": host.pk,
        "hold": window.pk,
        "source": source.pk,
        "image": image.pk,
        "role": Role.objects.get(group__name="Developer").pk,
        "application": package.application.pk,
        "package": package.pk,
        "environment": environment.pk,
        "member": environment.members.get().pk,
        "line": granting.give(root, environment=environment, user=olga, level="administer").pk,
        "dictionary": dictionaries.create_dictionary(root, name="Common").pk,
    }

    def things(owner: User, name: str) -> Thing:
        template = templates.create_template(
            root,
            name=f"template-{name}",
            images=[image],
            cpus=2,
            memory_mib=1024,
            disk_gib=10,
            default_lease_seconds=600,
            maximum_lease_seconds=600,
        )
        grant = grants.grant_template(root, template=template, user=owner)
        actor = Actor(user=owner)
        token, _ = tokens.create_token(actor, name=name, scopes=["vms"])
        vm = requests.request_vm(actor, template=template, name=f"vm-{name}")
        snapshot = Snapshot.objects.create(
            vm=vm, host_snapshot_id="{s-1}", with_memory=False, current=True, seen_at=vm.created_at
        )
        asked = asking.request_access(actor, template=template.name, reason="test")
        quota = quotas.set_quota(root, user=owner, maximum_vms=9)
        place = Placement.objects.create(
            vm=vm,
            host=host,
            host_name=f"vm-{name}",
            current=False,
            closed_at=vm.created_at,
            cpus=2,
            memory_mib=1024,
            disk_gib=10,
        )
        residue = Residue.objects.create(
            receipt=Receipt.objects.create(placement=place, verdict="residue"),
            kind="bundle",
            reference="/vm.pvm",
            detail="The folder /vm.pvm is still there.",
            ours=True,
            seen_at=vm.created_at,
        )
        enrolment_token = EnrolmentToken.objects.create(
            host_name=name,
            digest=name.rjust(64, "0"),
            expires_at=timezone.now() + timedelta(days=1),
            created_by=owner,
        )
        webhook = Webhook.objects.create(
            owner_id=owner.pk, name=name, url="http://10.0.0.1/", secret="whsec_", cursor=0
        )
        delivery = Delivery.objects.create(
            webhook=webhook, kind="vm.changed", subject="vm:1", body="{}", state="failed"
        )
        task = Task.objects.create(kind="initial", title=f"Task {name}", owner=owner, state="done")
        phase = Block.objects.create(task=task, path="0", position=1, kind="serial", label="all")
        leaf = Block.objects.create(
            task=task, parent=phase, path="0_1", position=1, kind="interleaved", label="leaf"
        )
        Step.objects.create(
            task=task, block=leaf, position=1, number=1, order=1, text="wait", kind="wait"
        )
        return Thing(
            {
                **shared,
                "task": task.pk,
                "path": "0_1_1",
                "quota": quota.pk,
                "access_request": asked.pk,
                "webhook": webhook.pk,
                "enrolment_token": enrolment_token.pk,
                "delivery": delivery.pk,
                "user": owner.pk,
                "template": template.pk,
                "grant": grant.pk,
                "token": token.pk,
                "vm": vm.pk,
                "residue": residue.pk,
                "snapshot": snapshot.pk,
                "job": Job.objects.get(subject=vm.subject).pk,
            }
        )

    return World(people, things(bob, "bob"), things(alice, "alice"))
