"""The wizard: package → environment → mapping → orchestrators → live preview → task.

Every answer is in the address, so that a preview can be read, shared and reloaded without a script;
with one it follows each change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.http import HttpResponse, QueryDict
from django.urls import reverse

from deployments import access, deltas, dictionaries, environments, packages, specs, types
from deployments.api.previews import package_named
from deployments.models import Application, Environment, Package
from deployments.planning import Block, Operation, PlanError, registry
from deployments.planning.registry import OWN
from deployments.running import control
from deployments.running.policy import whole_plan
from orchestrator.api.references import as_id
from orchestrator.refusals import Conflict, Refusal
from orchestrator.web import pages
from vms.views.templates import form_view

if TYPE_CHECKING:
    from deployments.models import Deployable
    from deployments.prepared import Prepared
    from orchestrator.web.pages import PageRequest

ORCHESTRATORS = 4  # fields for them; the first is outermost
OPEN_UP_TO = 300  # steps: longer plans come folded
SWITCHES = {
    "force_redeploy": "Undo and do again what has not changed",
    "undeploy_dependencies": "Undeploy what only this needed, too",
}


@dataclass
class Answers:
    """What the wizard was told so far."""

    query: QueryDict
    environment: Environment | None = None
    package: Package | None = None
    application: Application | None = None
    operation: str = specs.DEPLOY
    options: dict[str, Any] = field(default_factory=dict)
    # None: what types, tags and the package say.
    mapping: dict[str, list[str]] | None = None
    orchestrators: list[str] | None = None

    @property
    def selection(self) -> str:
        """Return what the mapping and the orchestrators were chosen for."""
        chosen = (self.environment, self.package or self.application, self.operation)
        return ":".join(str(getattr(one, "pk", one)) for one in chosen)

    @property
    def is_complete(self) -> bool:
        return bool(self.environment and (self.package or self.application))

    def asked(self) -> dict[str, Any]:
        """Return what `specs.prepare` takes."""
        return {
            "environment": self.environment,
            "package": self.package,
            "application": self.application,
            "operation": self.operation,
            "mapping": self.mapping,
            "orchestrators": self.orchestrators,
            "options": self.options,
        }

    def words(self) -> dict[str, Any]:
        """Return the same as JSON, for the task to be prepared again."""
        found = {name: one for name, one in self.asked().items() if one is not None}
        found.pop("environment", None)
        for name in ("package", "application"):
            if name in found:
                found[name] = str(found[name].pk)
        return found


def answers_of(request: PageRequest, query: QueryDict) -> Answers:
    """Read the answers; what is not there or not visible counts as not given."""
    actor = request.actor
    found = Answers(query)
    if pk := as_id(query.get("environment", "")):
        found.environment = Environment.objects.visible_to(actor).filter(pk=pk).first()
    if query.get("operation") == specs.UNDEPLOY:
        found.operation = specs.UNDEPLOY
    if reference := query.get("package", ""):
        try:
            found.package = package_named(actor, reference)
        except Refusal:
            found.package = None
    if found.operation == specs.UNDEPLOY and found.package:
        found.application = found.package.application
    found.options = {name: True for name in SWITCHES if query.get(name)}
    if query.get("resolution") == "existing":
        found.options["resolution"] = "existing"
    if query.get("for") == found.selection:
        given = [one.strip() for one in query.getlist("o") if one.strip()]
        if given != json.loads(query.get("offered") or "[]"):
            found.orchestrators = given
        if query.get("mapped") and found.operation == specs.DEPLOY:
            found.mapping = {
                name.removeprefix("map-"): query.getlist(name)
                for name in query
                if name.startswith("map-")
            }
    return found


@dataclass(frozen=True)
class Row:
    """A deployable in the mapping: where it may go, and where it does."""

    deployable: Deployable
    places: list[tuple[str, str, bool]]  # path, name, chosen

    @property
    def count(self) -> int:
        return sum(1 for *_, chosen in self.places if chosen)


def mapping_rows(answers: Answers) -> list[Row]:
    """Return the mapping of the chosen package; and drop an answer that says what is so anyway."""
    if not (answers.environment and answers.package) or answers.operation != specs.DEPLOY:
        return []
    sites = environments.sites(answers.environment)
    rows, usual = [], {}
    for member in packages.flattened(answers.package)[0]:
        for one in member.deployables.all():
            usual[one.name] = deltas.mapped(one, sites)
            # An empty first value marks a deployable that was shown, with no box ticked.
            chosen = (answers.mapping or {}).get(one.name)
            chosen = usual[one.name] if chosen is None else [path for path in chosen if path]
            kind = types.TYPES[one.type]
            places = [
                (path, site.container.name, path in chosen)
                for path, site in sites.items()
                if site.kind in kind.on
            ]
            rows.append(Row(one, places))
    if answers.mapping is not None:
        given = {row.deployable.name: [p for p, _, on in row.places if on] for row in rows}
        answers.mapping = None if given == usual else given
    return rows


@dataclass
class Shown:
    """A plan for the page: its deltas with keys, and the tree."""

    prepared: Prepared
    keys: dict[tuple[str, str], str]
    names: dict[str, str]  # path of a container → its name

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [
            {
                "key": self.keys[delta.key],
                "delta": delta,
                "differences": [dictionaries.masked(one._asdict()) for one in delta.differences]
                if delta.operation is not Operation.CREATE
                else [],
            }
            for delta in self.prepared.deltas
        ]

    @property
    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for delta in self.prepared.deltas:
            found[delta.operation.value] = found.get(delta.operation.value, 0) + 1
        return found

    @cached_property
    def plan(self) -> Block | None:
        """The plan as a task runs it: with the gates and approvals of the policy."""
        return whole_plan(self.prepared)

    @cached_property
    def steps(self) -> int:
        return sum(len(leaf.steps) for leaf in self.plan.leaves()) if self.plan else 0

    @cached_property
    def tree(self) -> dict[str, Any] | None:
        return self._node(self.plan) if self.plan else None

    def _node(self, block: Block) -> dict[str, Any]:
        return {
            "block": block,
            "kind": block.kind.value,
            "key": ", ".join(self.names.get(key, key) for key in block.key.split(", ")),
            "open": self.steps <= OPEN_UP_TO or not block.is_leaf,
            "count": sum(len(leaf.steps) for leaf in block.leaves()),
            "children": [self._node(child) for child in block.children],
            "steps": [
                {
                    "step": step,
                    "for": " ".join(
                        self.keys[pair] for pair in step.deployeds if pair in self.keys
                    ),
                    "preview": preview_of(step.action),
                }
                for step in block.steps
            ],
        }


def shown_of(prepared: Prepared) -> Shown:
    """Return a plan as a page shows it."""
    keys = {delta.key: f"d{number}" for number, delta in enumerate(prepared.deltas)}
    titles = {delta.container: delta.container_name for delta in prepared.deltas}
    return Shown(prepared, keys, titles)


def preview_of(action: Any) -> str:
    """Return what a step would do, in the words of its script or values; secrets are masked."""
    shown = action.get("script") or action.get("instruction") or action.get("values")
    if not shown:
        return ""
    masked = dictionaries.masked(shown)
    return masked if isinstance(masked, str) else json.dumps(masked, indent=2)


@form_view
@pages.page
def wizard(request: PageRequest) -> HttpResponse:
    """Show the wizard with its preview; or make, and perhaps start, the task."""
    request.actor.require("deployments.view")
    if request.method == "POST":
        return _make(request)
    answers = answers_of(request, request.GET)
    rows = mapping_rows(answers)
    prepared, refusal = None, None
    if answers.is_complete:
        try:
            prepared = specs.prepare(actor=request.actor, **answers.asked())
        except Refusal as error:
            refusal = error
    return pages.render(
        request, "deployments/wizard.html", _context(request, answers, rows, prepared, refusal),
        partial="wizard",
    )  # fmt: skip


def _context(
    request: PageRequest,
    answers: Answers,
    rows: list[Row],
    prepared: Prepared | None,
    refusal: Refusal | None,
) -> dict[str, Any]:
    offered = list(prepared.orchestrators) if prepared and answers.orchestrators is None else []
    if answers.orchestrators is not None:
        offered = json.loads(request.GET.get("offered") or "[]")
    names = answers.orchestrators if answers.orchestrators is not None else offered
    fields = [*names, *[""] * (ORCHESTRATORS - len(names))]
    return {
        "answers": answers,
        "rows": rows,
        "environments": Environment.objects.visible_to(request.actor).order_by("name"),
        "packages": Package.objects.visible_to(request.actor)
        .select_related("application")
        .order_by("application__name", "-id"),
        "orchestrators": list(enumerate(fields, 1)),
        "known": known_orchestrators(),
        "offered": json.dumps(offered),
        "switches": [
            (name, label, bool(answers.options.get(name))) for name, label in SWITCHES.items()
        ],
        "shown": shown_of(prepared) if prepared else None,
        "may_deploy": request.actor.can("deployments.run")
        and access.may(request.actor, answers.environment, access.DEPLOY),
        "refusal": refusal,
        "query": request.GET.urlencode(),
    }


def known_orchestrators() -> list[str]:
    """Return the names to choose from, custom ones too."""
    try:
        custom = registry.custom(settings.DEPLOYMENT_ORCHESTRATORS)
    except PlanError:
        custom = {}
    return [*OWN, *custom, "sequential-by-label:KEY", "parallel-by-label:KEY"]


def _make(request: PageRequest) -> HttpResponse:
    """Make the task that was previewed; refused when something has changed since."""
    request.actor.require("deployments.run")
    query = QueryDict(request.POST.get("query", ""))
    answers = answers_of(request, query)
    mapping_rows(answers)
    if not answers.is_complete:
        raise Conflict("Choose a package and an environment first.")
    prepared = specs.prepare(actor=request.actor, **answers.asked())
    if prepared.fingerprint != request.POST.get("fingerprint"):
        raise Conflict(
            "Something has changed since this preview: the package, the environment, what is"
            " deployed there, or a dictionary. Look at the preview again.",
            code="plan_changed",
        )
    with transaction.atomic():
        task = control.create(request.actor, prepared, asked=answers.words())
        if request.POST.get("then") == "start":
            control.start(request.actor, task)
    url = reverse("tasks:task", kwargs={"id": task.pk})
    return pages.done(request, url, f"{prepared.title}: the task was made.")
