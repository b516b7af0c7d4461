"""Tasks made from plain plans, with steps that do what a test says, and their jobs run inline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models.functions import Now

from accounts.actors import Actor
from deployments.models import Block, Environment, Step, Task
from deployments.planning import Kind, Operation, Spec, leaf, parallel, plan, serial
from deployments.planning import Step as Planned
from deployments.prepared import Prepared
from deployments.running import actions, control
from deployments.running.actions import Action, Run
from deployments.running.results import Busy, Failure, Pause, Result, Retry, Success
from jobs import running
from jobs.models import Job

if TYPE_CHECKING:
    from accounts.models import User
    from deployments import planning

__all__ = ["Kind", "leaf", "parallel", "plan", "serial"]


class Told(Action):
    """`told`: ends as its action says, one word for each attempt; `slow` until it is released."""

    def begin(self, run: Run) -> Result:
        words = run.action.get("results", ["ok"])
        word = words[min(run.step.attempt, len(words)) - 1]
        run.log(f"told to be {word}")
        if word == "slow":
            return Busy(5)
        if word == "retry" and run.step.retries < 2:
            return Retry("Not yet.")
        ended: dict[str, Result] = {
            "ok": Success("Well done."),
            "retry": Success("At last."),
            "fail": Failure("It broke. Mend it."),
            "pause": Pause("Look at it."),
        }
        return ended[word]

    def look(self, run: Run) -> Result:
        return Success("Slowly done.") if run.action["name"] in released else Busy(5)


released: set[str] = set()


def told(name: str, *results: str, order: int = 50, **more: Any) -> Planned:
    """Return a planned step that ends as told."""
    checkpoint = more.pop("checkpoint", False)
    deployeds = more.pop("deployeds", ())
    action = {"kind": "told", "name": name, "results": list(results) or ["ok"], **more}
    return Planned(order, name, action=action, checkpoint=checkpoint, deployeds=deployeds)


def L(label: str, *steps: Planned, key: str = "", made_by: str = "test") -> planning.Block:
    from dataclasses import replace

    return replace(leaf(label, [], key), steps=tuple(steps), made_by=made_by)


def S(*blocks: planning.Block, label: str = "serial") -> planning.Block:
    return serial(label, blocks)


def P(*blocks: planning.Block, label: str = "parallel") -> planning.Block:
    return parallel(label, blocks)


def prepared(
    environment: Environment,
    tree: planning.Block | None,
    *,
    title: str = "Shop 1.0",
    policy: dict[str, Any] | None = None,
    kind: str = "initial",
) -> Prepared:
    operation = Operation.DESTROY if kind == "undeploy" else Operation.CREATE
    return Prepared(
        kind=kind,
        environment_id=environment.pk,
        environment=environment.name,
        title=title,
        operation=operation,
        spec=Spec(operation, title, environment.name, ()),
        plan=tree,
        parts=(),
        deltas=(),
        mapping={},
        orchestrators=(),
        orchestrators_from="default",
        options={},
        policy=policy or {},
        warnings=(),
        fingerprint="f" * 64,
    )


@dataclass
class Engine:
    """Runs the jobs of tasks in this thread; no time passes but what a test lets pass."""

    alice: Actor
    environment: Environment
    recorded: list[Any] = field(default_factory=list)

    def make(self, tree: planning.Block | None, **options: Any) -> Task:
        return control.create(self.alice, prepared(self.environment, tree, **options))

    def start(self, task: Task) -> Job:
        return control.start(self.alice, task)

    def settle(self) -> None:
        """Run what is due until nothing is."""
        for _ in range(400):
            due = list(Job.objects.claimable().values_list("pk", flat=True))
            if not due:
                return
            for job_id in due:
                running.run_job(job_id)
        raise AssertionError("It never comes to rest.")

    def pass_time(self) -> None:
        """Let every waiting job look again, and run what is due."""
        Job.objects.filter(state="queued", lease_until=None).update(run_after=Now())
        self.settle()

    def run(self, task: Task) -> Task:
        self.start(task)
        self.settle()
        return self.reread(task)

    def release(self, *names: str) -> None:
        released.update(names)
        self.pass_time()

    @staticmethod
    def reread(task: Task) -> Task:
        return Task.objects.get(pk=task.pk)

    @staticmethod
    def state(task: Task) -> str:
        return str(Task.objects.values_list("state", flat=True).get(pk=task.pk))

    @staticmethod
    def steps(task: Task) -> dict[str, str]:
        """Return the states of the plan's steps, by their text."""
        rows = Step.objects.filter(task=task, block__always=False)
        return dict(rows.values_list("text", "state"))

    @staticmethod
    def blocks(task: Task) -> dict[str, str]:
        return dict(Block.objects.filter(task=task).values_list("label", "state"))

    @staticmethod
    def step(task: Task, text: str) -> Step:
        return Step.objects.select_related("block", "task").get(task=task, text=text)


@pytest.fixture
def engine(db: None, alice: User, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setitem(actions._actions, "told", Told())
    released.clear()
    recorded: list[Any] = []
    monkeypatch.setattr(
        "deployments.deployed.record", lambda *arguments: recorded.append(arguments[1:])
    )
    return Engine(Actor(user=alice), Environment.objects.create(name="staging"), recorded)
