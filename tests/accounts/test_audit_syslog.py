"""The audit trail at a real syslog receiver: in order, complete, also when things die."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from accounts.actors import SYSTEM, Actor
from accounts.audit import audit, seal_audit, syslog
from accounts.models import AuditEvent, AuditMark
from orchestrator.console.retention import retain
from tests.support.product import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.django_db, pytest.mark.stores]

LINE = re.compile(
    r"<(?P<priority>\d+)>1 (?P<time>\S+) \S+ orchestrator - (?P<action>\S+) "
    r'\[audit@32473 sequence="(?P<sequence>\d+)" outcome="(?P<outcome>\w+)" '
    r'digest="(?P<digest>\w{64})"\] '
    r"(?P<body>\{.*\})"
)


class Receiver:
    """Keeps the messages it gets, over TCP or UDP."""

    def __init__(self, kind: str, port: int = 0) -> None:
        self.lines: list[str] = []
        self.breaks_off = False
        receiver = self

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                if receiver.breaks_off:
                    # Gone with a reset, and with what it had not read.
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.request.close()
                    return
                receiver.lines += [line.decode().rstrip("\n") for line in self.rfile]

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                receiver.lines.append(self.request[0].decode())

        address = ("127.0.0.1", port)
        self.server: socketserver.BaseServer
        if kind == "tcp":
            socketserver.TCPServer.allow_reuse_address = True
            self.server = socketserver.ThreadingTCPServer(address, Stream)
        else:
            self.server = socketserver.UDPServer(address, Datagram)
        self.url = f"{kind}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def got(self, count: int) -> list[dict[str, str]]:
        until(lambda: len(self.lines) >= count, 10, f"{count} messages arrive")
        found = [LINE.fullmatch(line) for line in self.lines]
        assert all(found), self.lines
        return [match.groupdict() for match in found if match]


@pytest.fixture(params=["tcp", "udp"])
def receiver(request: pytest.FixtureRequest, settings) -> Iterator[Receiver]:
    made = Receiver(request.param)
    settings.AUDIT_SYSLOG = made.url
    yield made
    made.close()


def record(alice, count=3):
    for number in range(count):
        audit(
            Actor(alice, address="10.0.0.7"),
            "host.changed",
            f"host:{number}",
            "Größe\n]",
            data={"before": {"name": "a"}, "after": {"name": "b"}},
            refused=number == 1,
        )
    seal_audit()


def test_events_arrive_in_order_once(alice, receiver):
    record(alice)
    audit(SYSTEM, "vm.lease_ended", "vm:1")  # not sealed yet: not sent
    assert syslog.send_audit() == 3
    got = receiver.got(3)
    assert [(one["sequence"], one["priority"], one["outcome"]) for one in got] == [
        ("1", "110", "done"),
        ("2", "108", "refused"),
        ("3", "110", "done"),
    ]
    event = AuditEvent.objects.get(sequence=2)
    assert got[1]["digest"] == event.digest
    body = json.loads(got[1]["body"])
    assert (body["actor"], body["address"], body["subject_name"]) == (
        "alice",
        "10.0.0.7",
        "Größe\n]",
    )
    assert body["data"] == event.data
    assert syslog.send_audit() == 0
    seal_audit()
    assert syslog.send_audit() == 1
    assert [one["sequence"] for one in receiver.got(4)] == ["1", "2", "3", "4"]


def test_many_go_in_batches(alice, receiver, monkeypatch):
    monkeypatch.setattr(syslog, "BATCH", 2)
    record(alice, 7)
    assert syslog.send_audit() == 7
    assert [one["sequence"] for one in receiver.got(7)] == [str(n) for n in range(1, 8)]


def test_a_process_that_dies_after_sending_sends_the_same_numbers_again(
    alice, receiver, monkeypatch
):
    record(alice)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("django.db.models.query.QuerySet.update", die)
        with pytest.raises(KeyboardInterrupt):
            syslog._send_batch()
    assert AuditMark.of("syslog").sequence == 0
    assert syslog.send_audit() == 3
    numbers = [one["sequence"] for one in receiver.got(6)]
    assert numbers == ["1", "2", "3"] * 2
    assert AuditMark.of("syslog").sequence == 3


def test_a_server_that_breaks_off_or_is_away_loses_nothing(alice, settings):
    receiver = Receiver("tcp")
    port = int(receiver.url.rpartition(":")[2])
    settings.AUDIT_SYSLOG = receiver.url
    receiver.breaks_off = True
    record(alice)
    assert syslog.send_audit() == 0
    receiver.close()
    assert syslog.send_audit() == 0
    back = Receiver("tcp", port)
    assert syslog.send_audit() == 3
    assert [one["sequence"] for one in back.got(3)] == ["1", "2", "3"]
    back.close()


def test_retention_waits_for_the_server(alice, settings):
    record(alice)
    AuditEvent.objects.update(created_at=timezone.now() - timedelta(days=99))
    settings.AUDIT_RETENTION_DAYS = 30
    settings.AUDIT_SYSLOG = f"tcp://127.0.0.1:{free_port()}"
    retain()
    assert AuditEvent.objects.count() == 3
    AuditMark.objects.update_or_create(name="syslog", defaults={"sequence": 2})
    retain()
    assert list(AuditEvent.objects.sealed().values_list("sequence", flat=True)) == [3]


def test_a_long_event_still_fits_into_a_datagram(alice, settings):
    receiver = Receiver("udp")
    settings.AUDIT_SYSLOG = receiver.url
    audit(Actor(alice), "host.changed", "host:1", data={"text": "x" * 100_000})
    seal_audit()
    assert syslog.send_audit() == 1
    assert "left_out" in json.loads(receiver.got(1)[0]["body"])["data"]
    receiver.close()


def test_nothing_is_sent_unless_set(alice, settings):
    settings.AUDIT_SYSLOG = ""
    record(alice)
    assert syslog.send_audit() == 0
    assert not AuditMark.objects.exists()
