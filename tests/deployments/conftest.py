"""A fleet of database rows: hosts, VMs, an environment of them, and packages to put there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from deployments import deployed, environments, packages, specs
from deployments.models import Environment, Package
from hosts.models import Health, Host, HostCapacity, HostStatus
from vms.models import Grant, Template, VirtualMachine

if TYPE_CHECKING:
    from pathlib import Path

    from accounts.models import User
    from deployments.planning import Block
    from deployments.prepared import Prepared


@dataclass
class Fleet:
    """What a deployment needs: Alice, three VMs on two hosts, an environment of the VMs."""

    alice: Actor
    template: Template
    hosts: list[Host] = field(default_factory=list)
    vms: dict[str, VirtualMachine] = field(default_factory=dict)
    environment: Environment | None = None

    def vm(self, name: str, **fields: Any) -> VirtualMachine:
        values = {
            "template": self.template,
            "requested_by": self.alice.user,
            "cpus": 1,
            "memory_mib": 1024,
            "disk_gib": 8,
            "lease_seconds": 3600,
            "state": "running",
            "host": self.hosts[0],
            **fields,
        }
        made = VirtualMachine.objects.create(name=name, **values)
        self.vms[name] = made
        return made

    def path(self, name: str) -> str:
        return f"vm:{self.vms[name].pk}"

    def package(self, application: str = "Shop", version: str = "1.0", **document: Any) -> Package:
        made = packages.create_package(
            self.alice, {"application": application, "version": version, **document}
        )
        return Package.objects.whole().get(pk=made.pk)

    def prepare(self, package: Package | None = None, **options: Any) -> Prepared:
        options.setdefault("environment", self.environment)
        return specs.prepare(actor=self.alice, package=package, **options)

    def deploy(self, package: Package, **options: Any) -> Prepared:
        """Prepare and record, as if every step had been done."""
        found = self.prepare(package, **options)
        deployed.record(found.as_json(), None)
        return found

    def undeploy(self, package: Package, **options: Any) -> Prepared:
        found = self.prepare(package, operation="undeploy", **options)
        deployed.record(found.as_json(), None)
        return found

    def on(self) -> dict[str, tuple[str, list[str]]]:
        """Return what the record says: application → version and deployed@container, sorted."""
        return {
            row.application.name: (
                row.package.version,
                sorted(f"{one.name}@{one.container_name}" for one in row.deployeds.all()),
            )
            for row in self.environment.deployed_applications.all()
        }


def script(name: str = "setup", **properties: Any) -> dict[str, Any]:
    """Return a deployable that executes its name."""
    tags = properties.pop("tags", [])
    values = {"script": f"do {name}", **properties}
    return {"name": name, "type": "script", "tags": tags, "properties": values}


def texts(tree: Block | None) -> list[str]:
    return [step.text for leaf in tree.leaves() for step in leaf.steps] if tree else []


def orders(tree: Block | None) -> list[tuple[int, str]]:
    """Return order and kind of each step, in order."""
    leaves = tree.leaves() if tree else ()
    return [(step.order, step.action["kind"]) for leaf in leaves for step in leaf.steps]


@pytest.fixture
def fleet(db: None, alice: User, settings: Any, tmp_path: Path) -> Fleet:
    settings.ARTIFACT_DIR = tmp_path / "artifacts"
    template = Template.objects.create(
        name="ubuntu",
        clone_of="golden",
        cpus=2,
        memory_mib=2048,
        disk_gib=16,
        default_lease_seconds=3600,
        maximum_lease_seconds=7200,
    )
    Grant.objects.create(template=template, user=alice)
    made = Fleet(Actor(user=alice), template)
    for number in (1, 2):
        host = Host.objects.create(name=f"mac-{number}", url=f"http://127.0.0.1:{9000 + number}")
        HostStatus.objects.update_or_create(host=host, defaults={"health": Health.HEALTHY})
        capacity = {"cpus_total": 8, "memory_mib_total": 16_384, "disk_gib_total": 200}
        HostCapacity.objects.update_or_create(host=host, defaults=capacity)
        made.hosts.append(host)
    for name in ("web-1", "web-2", "db-1"):
        made.vm(name, host=made.hosts[name == "web-2"], tags=[name.partition("-")[0]])
    made.environment = environments.create_environment(
        made.alice,
        name="Staging",
        members=[{"vm": vm} for vm in made.vms.values()],
    )
    return made
