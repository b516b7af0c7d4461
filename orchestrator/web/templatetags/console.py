"""What every page may use without loading it: badges, icons, times, sizes, bars, fields."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django import forms, template
from django.template.defaultfilters import pluralize
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.forms import BoundField

    from orchestrator.web.pages import PageRequest

register = template.Library()

MIB_PER_GIB = 1024
GIB_PER_TIB = 1024
MONTH_SECONDS = 30 * 86_400

# Colour and icon of a state, so that no state is told by its colour alone.
_BUSY, _REST, _GOOD, _BAD = (
    ("blue", "loader"),
    ("gray", "player-pause"),
    ("green", "circle-check"),
    ("red", "circle-x"),
)
LOOKS: dict[str, tuple[str, str]] = {
    # VMs
    "pending": ("purple", "hourglass"),
    "creating": _BUSY,
    "starting": _BUSY,
    "running": ("green", "player-play"),
    "stopping": _BUSY,
    "stopped": ("gray", "player-stop"),
    "suspending": _BUSY,
    "suspended": _REST,
    "pausing": _BUSY,
    "paused": _REST,
    "resuming": _BUSY,
    "deleting": ("orange", "trash"),
    "deleted": ("gray", "trash"),
    "failed": _BAD,
    "cancelled": ("gray", "ban"),
    "forgotten": ("gray", "history"),
    "unknown": ("yellow", "alert-triangle"),
    # Hosts
    "new": ("blue", "clock"),
    "healthy": _GOOD,
    "degraded": ("yellow", "alert-triangle"),
    "unreachable": ("red", "plug"),
    "cordon": ("orange", "lock"),
    "drain": ("orange", "download"),
    "disable": ("orange", "ban"),
    "maintenance": ("orange", "settings"),
    "quarantine": ("red", "shield"),
    # Jobs, grants, tokens, accounts, images, audit
    "queued": ("purple", "hourglass"),
    "cancelling": ("orange", "loader"),
    "done": _GOOD,
    "live": _GOOD,
    "active": _GOOD,
    "inactive": ("gray", "ban"),
    "locked": ("red", "lock"),
    "usable": _GOOD,
    "tainted": ("yellow", "alert-triangle"),
    "cached": _GOOD,
    "pulling": _BUSY,
    "going": ("orange", "trash"),
    "no room": ("yellow", "alert-triangle"),
    "expired": ("gray", "clock"),
    "expiring": ("yellow", "clock"),
    "unused": ("yellow", "hourglass"),
    "revoked": ("red", "ban"),
    "refused": ("red", "ban"),
    "intact": ("green", "shield"),
    "broken": ("red", "shield"),
    "clean": _GOOD,
    "residue": ("orange", "trash"),
    "incomplete": ("yellow", "alert-triangle"),
    "gone": ("green", "check"),
    "stayed": ("orange", "trash"),
    "not checked": ("yellow", "alert-triangle"),
    "open": ("purple", "hourglass"),
    "approved": _GOOD,
    "declined": ("red", "ban"),
    "withdrawn": ("gray", "ban"),
    # Tasks, blocks and steps of deployments
    "registered": ("gray", "clock"),
    "restricted": ("orange", "lock"),
    "scheduled": ("purple", "clock"),
    "executing": _BUSY,
    "failing": ("red", "loader"),
    "aborting": ("orange", "loader"),
    "aborted": ("red", "ban"),
    "executed": _GOOD,
    "skip": ("gray", "ban"),
    "skipped": ("gray", "ban"),
    "use": ("blue", "user"),
    "manage": ("purple", "settings"),
}
# A running job is work under way, a running VM is where it should be.
JOB_LOOKS = {"running": _BUSY}
SPINNING = "loader"


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Show an icon of `static/icons.svg`. Without a label it is hidden from screen readers."""
    if label:
        return format_html(
            '<svg class="icon" role="img" aria-label="{}"><use href="{}#{}"></use></svg>',
            label,
            static("icons.svg"),
            name,
        )
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>',
        static("icons.svg"),
        name,
    )


@register.simple_tag
def state(word: str, noun: str = "", *, unknown: bool = False, title: str = "") -> SafeString:
    """Show a state as a badge with colour, icon and text: `{% state vm.state %}`.

    Also for health, holds, outcomes. `{% state job.state "job" %}` for jobs. With `unknown=True`
    (`vm.is_unknown`) it says so, and what the state was.
    """
    text = str(word)
    if unknown:
        text, looks = f"unknown, was {word}", LOOKS["unknown"]
    else:
        looks = (JOB_LOOKS.get(text) if noun == "job" else None) or LOOKS.get(
            text, ("gray", "activity")
        )
    tone, name = looks
    turning = " spinning" if name == SPINNING else ""
    attribute = format_html(' title="{}"', title) if title else ""
    return format_html(
        '<span class="state tone-{}{}"{}>{} {}</span>', tone, turning, attribute, icon(name), text
    )


@register.simple_tag
def ago(moment: datetime | None, never: str = "never") -> SafeString:
    """Show how long ago `moment` was, or in what time it will be. The script keeps it going."""
    if moment is None:
        return format_html('<span class="text-secondary">{}</span>', never)
    at = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        at.isoformat(timespec="seconds"),
        at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        _distance((timezone.now() - at).total_seconds(), at),
    )


def _distance(seconds: float, at: datetime) -> str:
    """As `static/js/console.js` writes it."""
    size = abs(seconds)
    if size >= MONTH_SECONDS:
        return at.strftime("%Y-%m-%d")
    if size < 1:
        return "now"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if size >= length:
            text = f"{int(size // length)} {unit}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "now"


@register.filter
def duration(seconds: float | None) -> str:
    """Write seconds as “2 d 4 h”, in at most two units."""
    if seconds is None:
        return ""
    left, parts = int(seconds), []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


@register.filter
def gib(mebibytes: float | None) -> str:
    """Write MiB as GiB (or MiB, or TiB): `{{ vm.memory_mib|gib }}`."""
    if mebibytes is None:
        return ""
    if abs(mebibytes) < MIB_PER_GIB:
        return f"{_short(mebibytes)} MiB"
    return disk(mebibytes / MIB_PER_GIB)


@register.filter
def disk(gibibytes: float | None) -> str:
    """Write GiB as GiB or TiB: `{{ vm.disk_gib|disk }}`."""
    if gibibytes is None:
        return ""
    if abs(gibibytes) < GIB_PER_TIB:
        return f"{_short(gibibytes)} GiB"
    return f"{_short(gibibytes / GIB_PER_TIB)} TiB"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


@dataclass(frozen=True)
class Segment:
    """One coloured part of a bar, in percent."""

    kind: str
    start: float
    width: float


@register.inclusion_tag("partials/capacity.html")
def capacity(
    label: str,
    total: int,
    charged: int,
    foreign: int = 0,
    reserved: int = 0,
    unit: str = "",
) -> dict[str, Any]:
    """Show who uses how much of a resource, as a bar with its numbers in words.

    `unit` is `mib`, `gib` or empty for plain numbers. Foreign: VMs that are not ours; reserved:
    what is left to the host's system.
    """
    write = {"mib": gib, "gib": disk}.get(unit, lambda number: str(number))
    segments, start = [], 0.0
    for kind, amount in (("charged", charged), ("foreign", foreign), ("reserved", reserved)):
        width = min(100 * amount / total, 100 - start) if total else 0
        if width > 0:
            segments.append(Segment(kind, round(start, 2), round(width, 2)))
            start += width
    used = charged + foreign + reserved
    return {
        "label": label,
        "segments": segments,
        "used": write(used),
        "total": write(total),
        "free": write(max(total - used, 0)),
        "charged": write(charged),
        "foreign": write(foreign) if foreign else "",
        "reserved": write(reserved) if reserved else "",
        "over": used > total,
        "full": bool(total) and used >= total,
    }


PLACES = {
    "vm": "/vms/",
    "host": "/hosts/",
    "job": "/jobs/",
    "task": "/tasks/",
    "template": "/templates/",
    "image": "/images/",
    "user": "/users/",
    "token": "/tokens/",
    "package": "/packages/",
    "environment": "/environments/",
    "dictionary": "/dictionaries/",
}


@register.simple_tag
def subject(reference: object, name: str = "") -> SafeString:
    """Link what a job or audit line is about: `{% subject job.subject "build-7" %}`."""
    noun, _, key = str(reference).partition(":")
    shown = name or (f"{noun} {key[:8]}…" if len(key) > 30 else f"{noun} {key}".strip())
    if noun not in PLACES or not key:
        return format_html("<span>{}</span>", shown)
    return format_html('<a href="{}{}/">{}</a>', PLACES[noun], key, shown)


@register.simple_tag
def field(bound: BoundField) -> SafeString:
    """Show a form's field: label, control, help, and what is wrong with it."""
    widget = bound.field.widget
    if bound.is_hidden:
        return format_html("{}", bound)
    # Not `id_for_label`: a group of choices has none.
    described = [f"{bound.auto_id}-help"] if bound.help_text else []
    if bound.errors:
        described.append(f"{bound.auto_id}-errors")
    many = isinstance(widget, forms.CheckboxSelectMultiple | forms.RadioSelect)
    attrs: dict[str, Any] = {}
    if described:
        attrs["aria-describedby"] = " ".join(described)
    if bound.errors:
        attrs["aria-invalid"] = "true"
    if widget.attrs.get("placeholder") == bound.label:
        attrs["placeholder"] = False  # allauth's: it would only say the label again
    if not many:
        attrs["class"] = _class_of(widget, bool(bound.errors))
    help_text = (
        format_html(
            '<small class="form-hint" id="{}-help">{}</small>', bound.auto_id, bound.help_text
        )
        if bound.help_text
        else ""
    )
    errors = (
        format_html(
            '<div class="invalid-feedback d-block" id="{}-errors">{}</div>',
            bound.auto_id,
            format_html_join(" ", "{}", ((text,) for text in bound.errors)),
        )
        if bound.errors
        else ""
    )
    if many:
        return format_html(
            '<fieldset class="mb-3 choices"{}><legend class="form-label{}">{}</legend>'
            "{}{}{}</fieldset>",
            format_html(' aria-describedby="{}"', " ".join(described)) if described else "",
            " required" if bound.field.required else "",
            bound.label,
            _choices(bound),
            help_text,
            errors,
        )
    if isinstance(widget, forms.CheckboxInput):
        return format_html(
            '<div class="mb-3"><label class="form-check">{} '
            '<span class="form-check-label">{}</span></label>{}{}</div>',
            bound.as_widget(attrs=attrs),
            bound.label,
            help_text,
            errors,
        )
    return format_html(
        '<div class="mb-3"><label class="form-label{}" for="{}">{}</label>{}{}{}</div>',
        " required" if bound.field.required else "",
        bound.id_for_label,
        bound.label,
        bound.as_widget(attrs=attrs),
        help_text,
        errors,
    )


def _choices(bound: BoundField) -> SafeString:
    return format_html_join(
        "",
        '<label class="form-check">{} <span class="form-check-label">{}</span></label>',
        (
            (choice.tag(), choice.choice_label)
            for choice in _with_class(bound, "form-check-input").subwidgets
        ),
    )


def _with_class(bound: BoundField, name: str) -> BoundField:
    bound.field.widget.attrs["class"] = name
    return bound


def _class_of(widget: forms.Widget, wrong: bool) -> str:
    own = widget.attrs.get("class", "")
    if isinstance(widget, forms.CheckboxInput):
        name = "form-check-input"
    elif isinstance(widget, forms.Select):
        name = "form-select"
    else:
        name = "form-control"
    return " ".join(filter(None, [own, name, "is-invalid" if wrong else ""]))


@register.inclusion_tag("partials/fields.html")
def fields(form: forms.BaseForm) -> dict[str, Any]:
    """Show all fields of a form, with what is wrong with the form as a whole on top."""
    return {"form": form}


@register.filter
def counted(hits: Iterable[Any]) -> str:
    """Write how many of what a revocation hits: “2 VMs and 1 task”."""
    words = {"vm": "VM"}
    found = Counter(words.get(hit.kind, hit.kind) for hit in hits)
    return " and ".join(f"{many} {word}{pluralize(many)}" for word, many in found.items())


@register.filter
def fields_named(form: forms.BaseForm, prefix: str) -> list[BoundField]:
    """Return a form's visible fields with ids of their own: a dialog may have the same fields."""
    form.auto_id = f"{prefix}_%s"
    return form.visible_fields()


@register.filter
def in_modal(request: PageRequest) -> bool:
    """Return whether a form is shown in the modal of another page, and not on a page of its own.

    A form that is wrong comes back by htmx to its own page, too.
    """
    here = request.htmx.current_url_abs_path
    return bool(request.htmx) and (here or "").partition("?")[0] != request.path


@register.filter
def gone(at_first: int, left: int) -> int:
    """Return how many of `at_first` are not left."""
    return max(0, at_first - left)


@register.filter
def get(mapping: Any, key: Any) -> Any:
    """Return `mapping[key]`, or nothing."""
    return mapping.get(key) if mapping else None


@register.simple_tag(takes_context=True)
def theme(context: template.Context) -> str:
    """Return `light` or `dark` as chosen by the reader, or nothing to follow the system."""
    request = context.get("request")
    chosen = request.COOKIES.get("theme", "") if request else ""
    return chosen if chosen in ("light", "dark") else ""


@register.filter
def error_layout(request: Any) -> str:
    """Return what an error's page extends: a toast for htmx, the frame only for the signed in."""
    htmx = getattr(request, "htmx", None)
    if htmx and not htmx.history_restore_request:
        return "errors/toast.html"
    signed_in = getattr(getattr(request, "user", None), "is_authenticated", False)
    return "base/page.html" if signed_in else "base/plain.html"


@dataclass(frozen=True)
class Place:
    """One entry of the navigation: shown to those who have any of `permissions`, or to all."""

    label: str
    path: str
    icon: str
    permissions: tuple[str, ...] = ()


NAVIGATION: tuple[tuple[str, tuple[Place, ...]], ...] = (
    (
        "",
        (
            Place("Overview", "/", "dashboard"),
            Place("VMs", "/vms/", "device-desktop"),
            Place("Queue", "/queue/", "hourglass"),
            Place("Templates", "/templates/", "template"),
            Place("Hosts", "/hosts/", "server", ("hosts.view",)),
            Place("Images", "/images/", "stack-2", ("images.view",)),
            Place("Residues", "/residues/", "trash", ("vms.view_all",)),
            Place("Jobs", "/jobs/", "list"),
        ),
    ),
    (
        "Deployments",
        (
            Place("Packages", "/packages/", "cube", ("deployments.view",)),
            Place("Tasks", "/tasks/", "player-play", ("deployments.view", "deployments.run")),
            Place("Environments", "/environments/", "database", ("deployments.view",)),
            Place("Dictionaries", "/dictionaries/", "tag", ("deployments.view",)),
        ),
    ),
    (
        "Access",
        (
            Place("Tokens", "/tokens/", "key"),
            Place("Webhooks", "/webhooks/", "bell", ("webhooks.use", "accounts.view")),
            Place("Users", "/users/", "users", ("accounts.view",)),
            Place("Service accounts", "/service-accounts/", "terminal", ("accounts.view",)),
            Place("Requests", "/access-requests/", "lock"),
            Place("Who may use what", "/access/", "eye", ("templates.view_all",)),
            Place("Roles", "/roles/", "shield", ("accounts.view",)),
            Place("Audit", "/audit/", "history", ("audit.view",)),
        ),
    ),
)


@register.inclusion_tag("partials/navigation.html", takes_context=True)
def navigation(context: template.Context) -> dict[str, Any]:
    """Show where the viewer may go; the place they are at is marked."""
    request = context.get("request")
    actor = getattr(request, "actor", None)
    path = request.path if request else ""
    groups = []
    for title, places in NAVIGATION:
        shown = [
            (place, path == place.path or (place.path != "/" and path.startswith(place.path)))
            for place in places
            if not place.permissions or (actor and any(actor.can(p) for p in place.permissions))
        ]
        if shown:
            groups.append((title, shown))
    return {"groups": groups}
