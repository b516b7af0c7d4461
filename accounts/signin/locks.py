"""After some wrong passwords an account, or an address, has to wait.

allauth counts, in the cache: in Redis, or, while that is away, in each process for itself.
"""

from __future__ import annotations

import math
import time
import unicodedata
from typing import TYPE_CHECKING

from allauth.core.internal import ratelimit
from django.core.cache import cache
from django.db import transaction
from django.template.defaultfilters import pluralize

from accounts.audit import audit

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.actors import Actor
    from accounts.models import User

APP, ACTION = "allauth.account", "login_failed"
MINUTE = 60


def key_of(login: str) -> str:
    """Return by what tries at one account are counted, whatever name the server was called by."""
    return unicodedata.normalize("NFKC", login).strip().casefold()


def wait_of(login: str, request: HttpRequest | None = None) -> int:
    """Return for how many seconds nobody may try this account, or (with `request`) the address."""
    waits = [0]
    now = time.time()
    for rate in ratelimit.get_rates(app=APP, action=ACTION):
        if rate.per == "ip" and request is None:
            continue
        name = ratelimit.get_cache_key(
            request, app=APP, action=ACTION, rate=rate, key=key_of(login)
        )
        _, tries = ratelimit.apply_rate(list(cache.get(name, [])), now, rate, dry_run=True)
        if len(tries) >= rate.amount:
            waits.append(math.ceil(tries[-1] + rate.duration - now))
    return max(waits)


def is_first_refusal(login: str, seconds: int) -> bool:
    """Return whether this is the first try of a wait: one line in the trail is enough."""
    return bool(cache.add(f"signin-locked:{key_of(login)}", True, timeout=seconds))


def lift(actor: Actor, user: User) -> None:
    """Let an account be tried again at once. Raises `Forbidden`."""
    actor.require("accounts.manage")
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        audit(actor, "user.unlocked", f"user:{user.pk}", user.username)
    forget(user)


def forget(user: User) -> None:
    """Forget the wrong passwords of an account."""
    key = key_of(user.username)
    cache.delete(f"signin-locked:{key}")
    for rate in ratelimit.get_rates(app=APP, action=ACTION):
        if rate.per == "key":
            cache.delete(ratelimit.get_cache_key(None, app=APP, action=ACTION, rate=rate, key=key))


def in_words(seconds: int) -> str:
    """Return a wait as people say it: “2 minutes”."""
    if seconds < MINUTE:
        return f"{seconds} second{pluralize(seconds)}"
    minutes = math.ceil(seconds / MINUTE)
    return f"{minutes} minute{pluralize(minutes)}"
