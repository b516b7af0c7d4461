"""Who can use what, as a table to take away."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from django.http import HttpResponse

from accounts.audit import audit
from accounts.audit.exporting import cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from accounts.actors import Actor
    from vms.matrix import Way

COLUMNS = (
    *("account", "template", "reason", "level", "until", "maximum_vms", "maximum_lease_seconds"),
    *("usable", "why_not", "taken", "grant"),
)


def export(actor: Actor, ways: Sequence[Way], *, filters: Mapping[str, str]) -> HttpResponse:
    """Return `ways` as CSV. That somebody took a copy is part of the audit trail."""
    data = {"as": "csv", "filters": dict(filters), "rows": len(ways)}
    audit(actor, "access.exported", "access:", "who may use what", data=data)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="access.csv"'
    response["Cache-Control"] = "no-store"
    writer = csv.writer(response)
    writer.writerow(COLUMNS)
    for way in ways:
        grant = way.grant
        values = (
            way.user.username,
            way.template.name,
            f"role {way.role}" if way.role else "direct",
            grant.level,
            grant.expires_at.isoformat() if grant.expires_at else "",
            "" if grant.maximum_vms is None else grant.maximum_vms,
            "" if grant.maximum_lease_seconds is None else grant.maximum_lease_seconds,
            "yes" if way.usable else "no",
            way.why_not,
            "yes" if way.taken else "no",
            str(grant.pk),
        )
        writer.writerow(cell(value) for value in values)
    return response
