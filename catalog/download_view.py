"""The contract's `/download` (8.31) for hosts with a ticket, and for nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse
from django.views.decorators.http import require_GET

from catalog import handing
from orchestrator.refusals import Conflict, Refusal

if TYPE_CHECKING:
    from django.http import HttpRequest


@require_GET
def download(
    request: HttpRequest, catalog_id: str, version: str, architecture: str
) -> JsonResponse:
    """Use the ticket in `X-Api-Key` up; the answer and its errors are the contract's."""
    try:
        values = handing.redeem(
            request.headers.get("X-Api-Key", ""),
            catalog_id=catalog_id,
            version=version,
            architecture=architecture,
        )
    except Refusal as refusal:
        status = 400 if isinstance(refusal, Conflict) else refusal.status
        answer = JsonResponse({"message": refusal.message, "code": status}, status=status)
    else:
        answer = JsonResponse(values)
    answer["Cache-Control"] = "no-store"
    return answer
