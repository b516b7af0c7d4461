"""Real packages on a simulated host: an environment of one running VM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from deployments import environments, packages, specs
from deployments.models import Package, Task
from deployments.running import control
from tests.vms.conftest import pool, reread, worker
from vms import verbs

if TYPE_CHECKING:
    from pathlib import Path

    from deployments.models import Environment
    from tests.vms.conftest import Pool, Worker
    from vms.models import VirtualMachine

__all__ = ["Rig", "pool", "rig", "worker"]


class Rig:
    """An environment of one running VM, and Alice, who rolls out there."""

    def __init__(self, pool: Pool, worker: Worker) -> None:
        self.alice, self.worker = pool.alice, worker
        made = pool.ask(name="web-1")
        worker.finish(made.create_job)  # type: ignore[arg-type]
        self.vm: VirtualMachine = reread(made)
        self.environment: Environment = environments.create_environment(
            pool.alice, name="Staging", members=[{"vm": self.vm}]
        )

    def package(
        self, version: str, *deployables: dict[str, Any], name: str = "Shop", **options: Any
    ) -> Package:
        document = {"application": name, "version": version, "deployables": list(deployables)}
        made = packages.create_package(self.alice, document, **options)
        return Package.objects.whole().get(pk=made.pk)

    def run(self, package: Package, until: str = "executed") -> Task:
        asked = {"environment": self.environment, "package": package}
        prepared = specs.prepare(actor=self.alice, **asked)
        task = control.create(self.alice, prepared, asked={"package": str(package.pk)})
        return self.go(task, until)

    def go(self, task: Task, until: str = "executed") -> Task:
        control.start(self.alice, task)
        self.worker.until(lambda: self.state(task) in (until, "failed", "stopped"), 30)
        found = Task.objects.get(pk=task.pk)
        assert found.state == until, found.reason
        return found

    def back(self, task: Task, by: str = "snapshots") -> Task:
        job = control.roll_back(self.alice, Task.objects.get(pk=task.pk), by=by)
        return Task.objects.get(pk=job.result["task"])

    def in_guest(self, command: str) -> str:
        job = self.worker.finish(verbs.execute(self.alice, self.vm, command=command))
        return str(job.result["stdout"])

    def on(self) -> dict[str, tuple[str, list[str]]]:
        return {
            row.application.name: (
                row.package.version,
                sorted(one.name for one in row.deployeds.all()),
            )
            for row in self.environment.deployed_applications.all()
        }

    @staticmethod
    def state(task: Task) -> str:
        return str(Task.objects.values_list("state", flat=True).get(pk=task.pk))


@pytest.fixture
def rig(pool: Pool, worker: Worker, settings: Any, tmp_path: Path) -> Rig:
    settings.ARTIFACT_DIR = tmp_path
    return Rig(pool, worker)
