"""Sending the sealed trail to a syslog server (RFC 5424), in order, nothing left out.

A mark remembers the number up to which everything was sent. It moves after the sending, so a
process that dies between loses nothing; what it had sent, at most a batch, is sent again with the
same `sequence`, by which a receiver tells. UDP itself may lose a message, and says nothing of it.
"""

from __future__ import annotations

import json
import logging
import socket
import uuid
from contextlib import closing
from logging.handlers import SysLogHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db.models.functions import Now

from accounts.audit.exporting import record
from accounts.models import AuditEvent, AuditMark
from orchestrator.db.models import RowLease

if TYPE_CHECKING:
    from collections.abc import Sequence

log = structlog.get_logger(__name__)

BATCH = 100
BATCHES = 20  # of one run: the next tick goes on
SECONDS = 5.0  # that a server may take
LEASE = "audit-syslog"
LOG_AUDIT = 13  # the facility, RFC 5424
LONGEST_DATAGRAM = 60_000
# The number that RFC 5612 keeps for whoever has none.
STRUCTURED = "audit@32473"


class _Handler(SysLogHandler):
    """The standard library's, with a limit to waiting, and failures that are told."""

    append_nul = False

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.stream = parts.scheme == "tcp"
        kind = socket.SOCK_STREAM if self.stream else socket.SOCK_DGRAM
        super().__init__((parts.hostname or "", parts.port or 514), LOG_AUDIT, kind)

    def createSocket(self) -> None:
        if self.stream:
            assert isinstance(self.address, tuple)
            self.socket = socket.create_connection(self.address, SECONDS)
            self.unixsocket = False
        else:
            super().createSocket()

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # what `emit` has caught

    def finish(self) -> None:
        """Wait until the server has read everything. Raises `OSError` when it broke off before."""
        if not self.stream:
            return
        self.socket.shutdown(socket.SHUT_WR)
        try:
            while self.socket.recv(4096):
                pass
        except TimeoutError:
            log.debug("audit.syslog_keeps_open")  # it got everything, and does not hang up


def send_audit() -> int:
    """Send what was sealed since the last time to `AUDIT_SYSLOG`; return how many events.

    One process does it at a time. A server that is away is tried again by the next tick, and
    retention deletes nothing that was not sent.
    """
    if not settings.AUDIT_SYSLOG:
        return 0
    holder = uuid.uuid4()
    if not RowLease.take(LEASE, holder, BATCHES * SECONDS * 3):
        return 0
    sent = 0
    try:
        for _ in range(BATCHES):
            count = _send_batch()
            sent += count
            if count < BATCH:
                break
    except OSError as error:
        log.warning("audit.syslog_away", server=settings.AUDIT_SYSLOG, error=str(error))
    finally:
        RowLease.objects.filter(name=LEASE, holder=holder).update(until=Now(), again=False)
    return sent


def _send_batch() -> int:
    mark, _ = AuditMark.objects.get_or_create(name=AuditMark.Name.SYSLOG)
    rows = AuditEvent.objects.filter(sequence__gt=mark.sequence).order_by("sequence")
    events = list(rows[:BATCH])
    if not events:
        return 0
    _send(events)
    here = AuditMark.objects.filter(name=mark.name, sequence=mark.sequence)
    here.update(sequence=events[-1].sequence, digest=events[-1].digest, at=Now())
    return len(events)


def _send(events: Sequence[AuditEvent]) -> None:
    with closing(_Handler(settings.AUDIT_SYSLOG)) as handler:
        for event in events:
            refused = event.outcome == AuditEvent.Outcome.REFUSED
            level = logging.WARNING if refused else logging.INFO
            text = message(event, longest=None if handler.stream else LONGEST_DATAGRAM)
            # Over TCP a line end separates messages (RFC 6587); none has one in it.
            text += "\n" if handler.stream else ""
            handler.emit(logging.LogRecord("audit", level, "", 0, text, None, None))
        handler.finish()


def message(event: AuditEvent, longest: int | None = None) -> str:
    """Return what follows the priority: RFC 5424's header and one JSON object, all ASCII."""
    values = record(event)
    body = json.dumps(values)
    if longest and len(body) > longest:
        body = json.dumps(values | {"data": {"left_out": "too long for a datagram"}})
    name = "".join(letter for letter in socket.gethostname() if "!" <= letter <= "~")[:255] or "-"
    header = f"1 {event.created_at.isoformat()} {name} orchestrator - {event.action[:32]}"
    told = {"sequence": event.sequence, "outcome": event.outcome, "digest": event.digest}
    structured = " ".join(f'{key}="{value}"' for key, value in told.items())
    return f"{header} [{STRUCTURED} {structured}] {body}"
