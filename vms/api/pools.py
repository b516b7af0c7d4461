"""The warm pool of a template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework import serializers

from orchestrator.api.serializers import Input, OneOf, Output, Text, Whole
from orchestrator.api.views import Patches, Shows
from orchestrator.refusals import Invalid
from vms import pools
from vms.api.templates import TemplateView
from vms.models import Template, WarmPool
from vms.models.pools import LARGEST

if TYPE_CHECKING:
    from datetime import time

CLOCK = ["%H:%M", "%H:%M:%S"]


class PoolOutput(Output):
    """VMs of a template that are kept ready."""

    size = serializers.IntegerField(help_text="How many are to be ready.")
    kept = serializers.ChoiceField(WarmPool.Kept.choices)
    quiet_from = serializers.TimeField(
        format="%H:%M", allow_null=True, help_text="Time of day, UTC. From then on none is made,"
    )
    quiet_until = serializers.TimeField(
        format="%H:%M", allow_null=True, help_text="until this one."
    )
    ready = serializers.SerializerMethodField(help_text="How many could be claimed now.")
    hits = serializers.IntegerField(help_text="Requests that got one at once.")
    misses = serializers.IntegerField(help_text="Requests that found none ready.")
    hit_rate = serializers.FloatField(allow_null=True)
    counted_since = serializers.DateTimeField(allow_null=True)

    def get_ready(self, pool: WarmPool) -> int:
        return pools.ready(pool).count() if pool.size else 0


class PoolChanges(Input):
    size = Whole(max_value=LARGEST, required=False)
    kept = OneOf(WarmPool.Kept.choices, required=False)
    quiet_from = Text(max_length=8, required=False, allow_null=True, help_text="`22:00`, UTC.")
    quiet_until = Text(max_length=8, required=False, allow_null=True)


class TemplatePool(TemplateView, Shows, Patches):
    output: Any = PoolOutput
    changes: ClassVar[type[Input]] = PoolChanges
    docs = {
        "GET": "Show how many VMs of a template are kept ready, and how often one was.",
        "PATCH": "Keep so many VMs of a template ready. They take only room that nobody waits for.",
    }

    def represent(self, thing: Template, **options: Any) -> Any:
        return super().represent(pools.pool_of(thing), **options)

    def change(self, thing: Template, data: dict[str, Any]) -> None:
        named = [name for name in ("quiet_from", "quiet_until") if name in data]
        for name in named:
            data[name] = _time(name, data[name])
        ends = bool(named) and all(data[name] is None for name in named)
        pools.set_pool(self.actor, thing, **data, clear_quiet=ends)


def _time(name: str, text: str | None) -> time | None:
    if text is None:
        return None
    try:
        return serializers.TimeField(input_formats=CLOCK).to_internal_value(text)
    except serializers.ValidationError:
        raise Invalid.field(name, "Give a time of day, such as 22:00.") from None
