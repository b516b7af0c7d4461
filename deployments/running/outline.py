"""A plan as the running view shows it: a flat list of what is open, and lanes over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from deployments.models.tasks import Block, Step, Task
from deployments.states import BlockState, StepState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

WINDOW = 60  # rows of one block that are shown at a time
FOLLOWED = 3  # branches that a view which follows opens by itself
LANES = 40
WIDTH = 1000  # of the time line, in units of its own


@dataclass
class Row:
    """A line of the outline: a block, a step, or a hint that there are more of them."""

    depth: int
    block: Block | None = None
    step: Step | None = None
    is_open: bool = False
    toggled: str = ""  # the query that opens or closes it
    more: str = ""  # “40 before”, with the query that shows them
    query: str = ""

    @property
    def shade(self) -> int:
        return min(self.depth, 6)

    @property
    def percent(self) -> int:
        block = self.block
        return 100 * block.steps_done // block.steps_total if block and block.steps_total else 0


def open_paths(task: Task, asked: Collection[str], *, follow: bool) -> set[str]:
    """Return the paths of the blocks to show open: those asked for, and where it is."""
    paths = set(asked)
    if follow:
        for path in where_it_is(task):
            parts = path.split("_")
            paths |= {"_".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return paths


def where_it_is(task: Task) -> list[str]:
    """Return the paths of the leaves that run, else of those that need a person, else the first."""
    steps = Step.objects.filter(task=task).order_by("number")
    for states, count in (
        ([StepState.EXECUTING], FOLLOWED),
        ([StepState.QUEUED], FOLLOWED),
        ([StepState.FAILED, StepState.PAUSED], FOLLOWED),
        ([StepState.PENDING, StepState.SKIP], 1),
        (StepState.finished(), 1),
    ):
        rows = steps.filter(state__in=states).values_list("block__path", flat=True)
        if found := list(dict.fromkeys(rows[: count * 20]))[:count]:
            return found
    return []


class Outline:
    """Builds the rows; each open block costs two queries, closed ones none."""

    def __init__(self, task: Task, opened: set[str], windows: dict[str, int], query: Any) -> None:
        self.task = task
        self.opened = opened
        self.windows = windows
        self.query = query  # of the page, to be changed into those of its links

    def rows(self) -> list[Row]:
        root = Block.objects.filter(task=self.task, parent=None).first()
        return list(self._of(root, 0)) if root else []

    def _of(self, block: Block, depth: int) -> Iterator[Row]:
        is_open = block.path in self.opened or depth == 0
        if depth:
            yield Row(depth - 1, block=block, is_open=is_open, toggled=self._toggled(block.path))
        if not is_open:
            return
        if block.is_leaf:
            steps = Step.objects.filter(block=block).select_related("block").order_by("position")
            yield from self._window(block, steps, depth, lambda one: [Row(depth, step=one)])
        else:
            children = Block.objects.filter(parent=block).order_by("position")
            yield from self._window(block, children, depth, lambda one: self._of(one, depth + 1))

    def _window(self, block: Block, rows: Any, depth: int, show: Any) -> Iterator[Row]:
        total = rows.count()
        start = self._start(block, rows, total)
        if start:
            before = max(0, start - WINDOW)
            yield Row(depth, more=f"{start} before", query=self._at(block.path, before))
        for one in rows[start : start + WINDOW]:
            yield from show(one)
        left = total - start - WINDOW
        if left > 0:
            yield Row(depth, more=f"{left} more", query=self._at(block.path, start + WINDOW))

    def _start(self, block: Block, rows: Any, total: int) -> int:
        """Return which row of a long block is shown first: as asked, else where it is."""
        if total <= WINDOW:
            return 0
        if block.path in self.windows:
            return max(0, min(self.windows[block.path], total - 1))
        current = (
            [StepState.EXECUTING, StepState.FAILED, StepState.PAUSED]
            if block.is_leaf
            else [*BlockState.running(), BlockState.FAILED, BlockState.STOPPED]
        )
        first = rows.filter(state__in=current).values_list("position", flat=True).first()
        return max(0, (first or 1) - 3)

    def _toggled(self, path: str) -> str:
        query = self.query.copy()
        query.pop("follow", None)
        paths = {one for one in self.opened if one != path}
        if path not in self.opened:
            paths.add(path)
        query.setlist("open", sorted(paths))
        query["follow"] = "no"
        return str(query.urlencode())

    def _at(self, path: str, offset: int) -> str:
        query = self.query.copy()
        kept = [one for one in query.getlist("at") if not one.startswith(f"{path}:")]
        query.setlist("at", [*kept, f"{path}:{offset}"])
        query.setlist("open", sorted(self.opened))
        query["follow"] = "no"
        return str(query.urlencode())


@dataclass
class Bar:
    """One step, or block, on a lane; places in units of the time line."""

    x: str  # numbers as SVG writes them, in any language
    width: str
    state: str
    title: str


@dataclass
class Lane:
    """A leaf, or a larger block when there are many, over time."""

    label: str
    y: int
    bars: list[Bar]


@dataclass
class TimeLine:
    """Who ran when: a lane for each branch, so that what ran at once lies above each other."""

    lanes: list[Lane]
    seconds: float
    left_out: int

    @property
    def height(self) -> int:
        return len(self.lanes) * 22


def time_line(task: Task) -> TimeLine | None:
    """Return the lanes of a task that has begun; None before."""
    if task.started_at is None:
        return None
    leaves = list(
        Block.objects.filter(task=task, kind=Block.Kind.INTERLEAVED).exclude(started_at=None)
    )
    leaves.sort(key=lambda one: tuple(map(int, one.path.split("_"))))
    shown, left_out = leaves[:LANES], max(0, len(leaves) - LANES)
    began = task.started_at
    now = timezone.now()
    end = task.ended_at or now
    total = max((end - began).total_seconds(), 0.001)
    steps: dict[object, list[Step]] = {leaf.pk: [] for leaf in shown}
    rows = Step.objects.filter(block__in=list(steps)).exclude(started_at=None)
    for step in rows.order_by("position"):
        steps[step.block_id].append(step)

    def place(moment: datetime) -> float:
        return max(0.0, min(WIDTH, (moment - began).total_seconds() / total * WIDTH))

    lanes = []
    for number, leaf in enumerate(shown):
        bars = []
        for step in steps[leaf.pk]:
            assert step.started_at is not None
            x = place(step.started_at)
            ended = place(step.ended_at or end)
            took = ((step.ended_at or now) - step.started_at).total_seconds()
            title = f"{step.number} {step.text}: {step.state}, {took:.1f} s"
            bars.append(Bar(f"{x:.1f}", f"{max(3.0, ended - x):.1f}", step.state, title))
        lanes.append(Lane(leaf.label, number * 22, bars))
    return TimeLine(lanes, total, left_out)
