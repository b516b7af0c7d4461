"""Mail, where it is configured (`EMAIL_URL`): sent beside the request, which waits for nobody.

So an answer takes as long for an address that is known as for one that is not, and a mail server
that is away breaks no page. A lost mail is logged without its text, and can be asked for again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

if TYPE_CHECKING:
    from django.core.mail import EmailMultiAlternatives

    from accounts.models import Invitation

log = structlog.get_logger(__name__)


def is_configured() -> bool:
    """Return whether mail can be sent."""
    return bool(settings.EMAIL_URL)


def write(to: str, subject: str, text: str) -> None:
    """Send a mail once the transaction is committed, if there is an address and mail at all."""
    if to and is_configured():
        message = EmailMessage(f"Orchestrator: {subject}", text, settings.DEFAULT_FROM_EMAIL, [to])
        transaction.on_commit(lambda: send(message), robust=True)


def write_invitation(invitation: Invitation, url: str) -> None:
    """Send an invitation to its address."""
    write(
        invitation.email,
        "an account for you",
        f"{invitation.invited_by} invites you to Orchestrator, as “{invitation.username}”. Set "
        f"your password here, within {settings.LINK_HOURS} hours:\n\n{url}\n\nThe link works once. "
        "If you did not expect this, ignore it.\n",
    )


def send(message: EmailMessage | EmailMultiAlternatives) -> threading.Thread:
    """Send a message in a thread of its own, which is returned."""
    thread = threading.Thread(target=_deliver, args=[message], daemon=True, name="mail")
    thread.start()
    return thread


def _deliver(message: EmailMessage) -> None:
    try:
        message.send()
    except Exception as error:  # whatever a mail server does, nobody waits for this thread
        log.error("mail.failed", error=type(error).__name__)
