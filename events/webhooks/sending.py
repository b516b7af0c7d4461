"""One HTTP request to a receiver: bounded in time and size, to the address that was checked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from django.conf import settings

from events.webhooks.addresses import look_up
from events.webhooks.signing import signature
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from events.models import Delivery, Webhook

KEPT_ANSWER = 500  # bytes of what the receiver answered


@dataclass(frozen=True)
class Attempt:
    """What came of one try. `status` is None when there was no answer."""

    status: int | None
    milliseconds: int
    answer: str = ""
    problem: str = ""

    @property
    def arrived(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def send(webhook: Webhook, delivery: Delivery) -> Attempt:
    """Send `delivery` once. Redirects are not followed: they could lead anywhere."""
    begun = time.monotonic()

    def took() -> int:
        return int((time.monotonic() - begun) * 1000)

    try:
        target = look_up(webhook.url)
        body = delivery.body.encode()
        timestamp = int(time.time())
        headers = {
            "Host": target.host_header,
            "Content-Type": "application/json",
            "User-Agent": "orchestrator-webhooks",
            "webhook-id": str(delivery.pk),
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(webhook.secret, str(delivery.pk), timestamp, body),
        }
        limit = settings.WEBHOOK_SECONDS
        with (
            httpx.Client(timeout=limit, trust_env=False, follow_redirects=False) as client,
            client.stream(
                "POST",
                target.url,
                content=body,
                headers=headers,
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            answer = _beginning(response, begun + limit)
            return Attempt(response.status_code, took(), answer)
    except Invalid as refusal:
        return Attempt(None, took(), problem=refusal.message)
    except httpx.TimeoutException:
        return Attempt(
            None, took(), problem=f"No answer within {settings.WEBHOOK_SECONDS:g} seconds."
        )
    except (httpx.HTTPError, OSError, ValueError) as error:
        return Attempt(None, took(), problem=f"No answer: {type(error).__name__}.")


def _beginning(response: httpx.Response, until: float) -> str:
    """Return the first bytes of an answer, and read no more of it."""
    kept = b""
    for chunk in response.iter_raw():
        kept += chunk
        if len(kept) >= KEPT_ANSWER or time.monotonic() > until:
            break
    return kept[:KEPT_ANSWER].decode("utf-8", "replace")
