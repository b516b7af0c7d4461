"""The forms of policies: what an environment, or a version, says about every run.

Fields are named by where they are in the policy (`gate_port`, `approvals_0_role`), so that what the
domain says of a place is shown at its field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from django import forms

from accounts.models import Role
from deployments import policies
from vms.forms.durations import DurationField

if TYPE_CHECKING:
    from deployments.schemas import Path, Problem

UNSAID = ("", "–")
SIBLINGS = [
    UNSAID,
    ("finish", "go on to their end"),
    ("stop", "stop after the step that runs"),
    ("abort", "are interrupted"),
]
THEN = [
    UNSAID,
    ("hold", "the task waits for a person, others go on to their end"),
    ("stop", "nothing new begins, and the task waits for a person"),
    ("rollback", "what was done is rolled back by itself"),
]
PROBES = [
    ("", "none"),
    ("port", "a TCP port takes connections"),
    ("http", "a page answers"),
    ("script", "a script in the VM ends well"),
    ("agent", "the guest agent answers"),
]
AT = [
    UNSAID,
    ("start", "before the first step"),
    ("batch", "before each further batch"),
    ("end", "before the changes are registered"),
]
SPARE, MOST = 2, 20  # rows for approvals that are empty; rows at all
SHARE = "A count, or a share such as 25%."


class Group(NamedTuple):
    """Fields that belong together on the page."""

    legend: str
    help_text: str
    fields: list[forms.BoundField]


class PolicyForm(forms.Form):
    """What a version says: gate, failures, approvals. Subclasses have fields of their own first."""

    own_legend = ""
    own_help = ""

    def __init__(self, *arguments: Any, policy: Mapping[str, Any], **options: Any) -> None:
        options["initial"] = {**flat(policy), **options.get("initial", {})}
        super().__init__(*arguments, **options)
        self.own = list(self.fields)
        self.before = policy
        self.fields.update(_failing())
        self.fields.update(_gate())
        roles = list(Role.objects.order_by("group__name").values_list("group__name", flat=True))
        there = policy.get("approvals", [])
        self.rows = min(MOST, len(there) + SPARE)
        for row in range(self.rows):
            known = there[row].get("role") if row < len(there) else ""
            self.fields.update(_approval(row, [*roles, *([known] if known not in roles else [])]))

    def groups(self) -> Iterator[Group]:
        """Return the fields as the page shows them."""
        if self.own:
            yield Group(self.own_legend, self.own_help, [self[name] for name in self.own])
        yield self._group(
            "When steps fail", "Until more than these fail, the deployment goes on.", "on_failure_"
        )
        yield self._group(
            "Health gate", "Looked at on each VM of a batch, before the next one begins.", "gate_"
        )
        for row in range(self.rows):
            help_text = "Somebody has to approve before the task goes on." if not row else ""
            yield self._group(f"Approval {row + 1}", help_text, f"approvals_{row}_")

    def _group(self, legend: str, help_text: str, prefix: str) -> Group:
        return Group(
            legend, help_text, [self[name] for name in self.fields if name.startswith(prefix)]
        )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        self.filled = [
            row for row in range(self.rows) if any(_of(values, f"approvals_{row}_").values())
        ]
        if not self.errors:
            for problem in self.problems(self.policy()):
                self.add_error(self._place(problem.path), problem.text)
        return values

    def problems(self, policy: Mapping[str, Any]) -> list[Problem]:
        return policies.package_problems(policy)

    def _place(self, path: Path) -> str | None:
        """Return the field that a path of the policy belongs to; None: the form as a whole."""
        parts = list(path)
        if parts[:1] == ["approvals"] and len(parts) > 1:
            parts[1] = self.filled[int(parts[1])]
        name = "_".join(map(str, parts))
        return name if name in self.fields else None

    def policy(self) -> dict[str, Any]:
        """Return the policy that was given; what the form does not show is as it was."""
        values = self.cleaned_data
        found = dict(self.before)
        failing = _of(values, "on_failure_")
        failing["tolerated"] = _share(failing.get("tolerated") or "")
        gate = _of(values, "gate_")
        approvals = [_kept(_of(values, f"approvals_{row}_")) for row in self.filled]
        found["on_failure"] = _kept(failing)
        found["gate"] = _kept(gate)
        found["approvals"] = approvals
        return _said(found)


class EnvironmentPolicyForm(PolicyForm):
    """What an environment says; a version's word counts more, but for approvals: both are asked."""

    own_legend = "How much at once"
    max_unavailable = forms.CharField(
        required=False,
        max_length=10,
        label="Members that change at once",
        help_text=f"{SHARE} Members that are not well count, and so do all tasks. Empty: no limit.",
    )
    exclusive = forms.BooleanField(
        required=False,
        label="One deployment at a time",
        help_text="A task has the whole environment to itself; others wait for their turn.",
    )

    def problems(self, policy: Mapping[str, Any]) -> list[Problem]:
        return policies.environment_problems(policy)

    def policy(self) -> dict[str, Any]:
        own = {
            "max_unavailable": _share(self.cleaned_data.get("max_unavailable") or ""),
            "exclusive": bool(self.cleaned_data.get("exclusive")),
        }
        return _said({**super().policy(), **own})


class VersionForm(PolicyForm):
    """Another version of a package, with another policy."""

    own_legend = "The new version"
    own_help = "It holds the same as this one: a version never changes once it is here."
    version = forms.CharField(max_length=50, label="Version", help_text="Such as 1.0.1.")


def flat(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy's values by the names of fields."""
    found: dict[str, Any] = {}
    for name, one in policy.items():
        if isinstance(one, Mapping):
            found |= {f"{name}_{key}": value for key, value in one.items()}
        elif isinstance(one, list):
            for row, item in enumerate(one):
                found |= {f"{name}_{row}_{key}": value for key, value in item.items()}
        else:
            found[name] = one
    return found


def _of(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ("", None)}


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what says something: 0 does."""
    return {name: one for name, one in values.items() if one or (one == 0 and one is not False)}


def _share(text: str) -> int | str:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else text


def _failing() -> dict[str, forms.Field]:
    return {
        "on_failure_tolerated": forms.CharField(
            required=False,
            max_length=10,
            label="Failures that are tolerated",
            help_text=f"Branches of parallel blocks. {SHARE} Empty: none.",
        ),
        "on_failure_siblings": forms.ChoiceField(
            choices=SIBLINGS,
            required=False,
            label="Branches beside one that failed",
            help_text="Unless said, they go on to their end.",
        ),
        "on_failure_then": forms.ChoiceField(
            choices=THEN,
            required=False,
            label="And then",
            help_text="Unless said, it waits for a person.",
        ),
    }


def _gate() -> dict[str, forms.Field]:
    return {
        "gate_probe": forms.ChoiceField(choices=PROBES, required=False, label="Healthy when"),
        "gate_port": forms.IntegerField(
            required=False, label="TCP port", help_text="For a port or a page."
        ),
        "gate_path": forms.CharField(
            required=False, label="Path of the page", help_text="Such as /health. Empty: /."
        ),
        "gate_status": forms.IntegerField(
            required=False, label="Status of the page", help_text="Empty: 200."
        ),
        "gate_script": forms.CharField(
            required=False,
            label="Script",
            help_text="Exit code 0 is healthy.",
            widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"}),
        ),
        "gate_interpreter": forms.CharField(
            required=False, label="What runs it", help_text="Empty: /bin/sh."
        ),
        "gate_minimum_healthy_seconds": DurationField(
            required=False, label="Healthy for", help_text="Such as 30s. Empty: one look is enough."
        ),
        "gate_deadline_seconds": DurationField(
            required=False, label="Within", help_text="Else the gate fails. Empty: 5 min."
        ),
    }


def _approval(row: int, roles: list[str]) -> dict[str, forms.Field]:
    anybody = ("", "anybody who may act")
    return {
        f"approvals_{row}_name": forms.CharField(
            required=False, max_length=100, label="What is approved", help_text="Such as Go live."
        ),
        f"approvals_{row}_at": forms.ChoiceField(choices=AT, required=False, label="When"),
        f"approvals_{row}_role": forms.ChoiceField(
            choices=[anybody, *((name, f"role {name}") for name in roles)],
            required=False,
            label="Who may",
        ),
        f"approvals_{row}_timeout_seconds": DurationField(
            required=False,
            label="Within",
            help_text="Later, the task has to be continued to ask anew. Empty: no end.",
        ),
    }
