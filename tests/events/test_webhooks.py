"""Webhooks against a real receiver: signed, complete, and only what their owner may see."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection

from accounts import audit, custom_roles, users, webhooks
from accounts.actors import Actor
from accounts.audit import webhooks as audit_webhooks
from accounts.models import AuditEvent, Role, User
from events.models import Delivery, Webhook
from events.publishing import publish
from events.sealing import seal_events
from events.webhooks import addresses, delivering
from orchestrator.db.clock import from_now
from orchestrator.db.models import RowLease
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.support.product import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test import Client

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.stores]


class Receiver:
    """An HTTP server that keeps what it gets and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []  # for the next requests; then 204
        self.goes_on: threading.Event | None = None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.goes_on:
                    receiver.goes_on.wait(20)
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kinds(self) -> list[str]:
        return [json.loads(body)["kind"] for _headers, body in self.got]


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW_LOOPBACK = True
    made = Receiver()
    yield made
    if made.goes_on:
        made.goes_on.set()
    made.server.shutdown()
    made.server.server_close()


def happens(kind: str, owner: User | None = None, permission: str = "vms.view_all") -> None:
    publish(kind, f"{kind.partition('.')[0]}:1", permission=permission, owner_id=owner and owner.pk)
    seal_events()


def round_() -> int:
    """Do what one tick does."""
    delivering.fan_out(webhooks.rights)
    return delivering.deliver(webhooks.rights)


def tick() -> None:
    """Do a round in a thread of its own."""
    try:
        round_()
    finally:
        connection.close()


def make(user: User, url: str, *kinds: str) -> tuple[Webhook, str]:
    return webhooks.create_webhook(Actor(user=user), name="chat", url=url, kinds=kinds)


def test_what_happens_is_sent_signed_and_its_secret_is_nowhere_else(
    alice: User, receiver: Receiver
) -> None:
    happens("vm.changed")  # before it was made: not sent
    webhook, secret = make(alice, receiver.url, "vm", "lease.ending")
    for kind in ("vm.changed", "host.changed", "lease.ending", "lease.started"):
        happens(kind, permission="vms.view_all" if kind[0] != "h" else "hosts.view")
    assert round_() == 2
    assert sorted(receiver.kinds()) == ["lease.ending", "vm.changed"]
    headers, body = receiver.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["Host"] == receiver.url.split("/")[2]
    assert json.loads(body).keys() == {"sequence", "kind", "subject", "data", "created_at"}
    assert round_() == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM events_webhook")
        assert secret not in cursor.fetchone()[0]
    assert secret not in json.dumps(list(AuditEvent.objects.values_list("data", flat=True)))
    assert webhook.deliveries.filter(state="delivered", status=204).count() == 2


def test_a_failed_delivery_is_tried_again_with_the_same_id_and_in_the_end_pauses(
    alice: User, receiver: Receiver
) -> None:
    webhook, _ = make(alice, receiver.url)
    receiver.answers = [500, 302]
    happens("vm.changed")
    assert round_() == 1
    delivery = webhook.deliveries.get(kind="vm.changed")
    assert (delivery.state, delivery.status, delivery.tries) == ("pending", 500, 1)
    assert round_() == 0, "its time has not come"
    for tries in (2, 3):
        Delivery.objects.update(next_at=from_now(-1))
        round_()
        assert Delivery.objects.get(pk=delivery.pk).tries == tries
    ids = {headers["webhook-id"] for headers, body in receiver.got if b"vm.changed" in body}
    assert ids == {str(delivery.pk)}
    assert Delivery.objects.get(pk=delivery.pk).state == "delivered", "no redirect was followed"

    receiver.answers = [503]
    happens("vm.changed")
    delivering.fan_out(webhooks.rights)
    Delivery.objects.filter(state="pending").update(tries=len(delivering.PAUSES))
    round_()
    webhook.refresh_from_db()
    assert webhook.paused_at
    assert webhook.paused_reason.endswith("at last with: status 503")
    happens("vm.changed")
    assert round_() == 0
    webhooks.resume(Actor(user=alice), webhook)
    assert round_() >= 1, "what happened meanwhile is sent"


def test_an_owner_gets_only_what_they_may_see_at_the_moment_of_each_try(
    alice: User, bob: User, receiver: Receiver
) -> None:
    webhook, _ = make(bob, receiver.url, "vm")
    happens("vm.changed", owner=bob)
    happens("vm.removed")  # somebody else's
    receiver.answers = [500]
    round_()
    assert receiver.kinds() == ["vm.changed"]
    bob.groups.clear()
    Delivery.objects.update(next_at=from_now(-1))
    round_()
    assert receiver.kinds() == ["vm.changed"]
    failed = webhook.deliveries.get()
    assert (failed.state, failed.problem) == ("failed", delivering.NOT_ALLOWED)
    bob.groups.set(Group.objects.filter(name="Developer"))
    User.objects.filter(pk=bob.pk).update(is_active=False)
    happens("vm.changed", owner=bob)
    round_()
    assert len(receiver.got) == 1


def test_the_audit_trail_is_sent_in_order_and_only_while_its_owner_may_read_it(
    audrey: User, alice: User, bob: User, receiver: Receiver
) -> None:
    auditor, root = Role.objects.get(group__name="Auditor"), Actor(user=alice)
    with pytest.raises(Forbidden):
        make(bob, receiver.url, "audit")
    custom_roles.create_role(root, name="Before")
    reader = custom_roles.create_role(root, name="Hooks", permissions=["webhooks.use"])
    users.set_roles(root, audrey, [auditor, reader])
    audit.seal_audit()
    webhook, _ = make(audrey, receiver.url, "audit")
    all_events, _ = make(alice, receiver.url)  # without a word about the trail it gets none of it
    webhooks.pause(root, all_events)
    for number in range(5):
        custom_roles.create_role(root, name=f"role-{number}")
    audit.seal_audit()
    receiver.answers = [500]
    assert trail() == 1, "what did not arrive holds back what follows it"
    Delivery.objects.update(next_at=from_now(-1))
    assert trail() == 8
    sent = [json.loads(body) for _headers, body in receiver.got]
    assert [one["sequence"] for one in sent[1:]] == sorted(one["sequence"] for one in sent[1:])
    assert sent[0] == sent[1], "the same one again"
    stored = AuditEvent.objects.filter(sequence__gt=sent[0]["sequence"] - 1).order_by("sequence")
    assert [one["digest"] for one in sent[1:]] == [event.digest for event in stored]
    assert {one["kind"] for one in sent} == {"audit"}
    assert [one["subject_name"] for one in sent[-5:]] == [f"role-{n}" for n in range(5)]
    assert "Before" not in {one["subject_name"] for one in sent}
    assert all(headers["webhook-signature"].startswith("v1,") for headers, _ in receiver.got)

    # A receiver that is away for a day pauses it, and nothing is lost by that.
    custom_roles.create_role(root, name="while away")
    audit.seal_audit()
    receiver.got.clear()
    receiver.answers = [500] * 20
    while Webhook.objects.active().filter(pk=webhook.pk).exists():
        assert trail() == 1
        Delivery.objects.update(next_at=from_now(-1))
    receiver.answers, before = [], len(receiver.got)
    webhooks.resume(root, webhook)
    audit.seal_audit()
    trail()
    names = [json.loads(body)["subject_name"] for _headers, body in receiver.got[before:]]
    assert names[0] == "while away"

    # Without the right nothing more is sent: not what waits, and not what is new.
    custom_roles.create_role(root, name="waits")
    audit.seal_audit()
    audit_webhooks.fan_out(webhooks.rights)
    users.set_roles(root, audrey, [reader])
    audit.seal_audit()
    receiver.got.clear()
    trail()
    trail()
    assert receiver.got == []
    assert webhook.deliveries.filter(problem=delivering.NOT_ALLOWED).exists()
    users.set_roles(root, audrey, [auditor, reader])
    trail()
    assert receiver.got == [], "what happened meanwhile is not sent later either"


def trail() -> int:
    audit_webhooks.fan_out(webhooks.rights)
    return delivering.deliver(webhooks.rights)


def test_two_ticks_at_once_send_each_event_once(alice: User, receiver: Receiver) -> None:
    make(alice, receiver.url, "vm")
    for _ in range(10):
        happens("vm.changed")

    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    round_()
    sent = [headers["webhook-id"] for headers, _body in receiver.got]
    assert len(sent) == len(set(sent)) == 10


def test_a_tick_that_came_too_early_does_not_stop_the_next_ones(
    alice: User, receiver: Receiver
) -> None:
    make(alice, receiver.url, "vm")
    receiver.goes_on = threading.Event()
    happens("vm.changed")
    first = threading.Thread(target=tick)
    first.start()
    until(lambda: RowLease.objects.filter(name=delivering.LEASE).exists(), 10, "it is at work")
    assert round_() == 0, "one sends at a time"
    receiver.goes_on.set()
    first.join(30)
    happens("vm.changed")
    assert round_() == 1
    assert receiver.kinds() == ["vm.changed"] * 2


def test_a_receiver_that_hangs_delays_no_other(
    alice: User, receiver: Receiver, settings: Any
) -> None:
    settings.WEBHOOK_SECONDS = 3
    hanging = Receiver()
    hanging.goes_on = threading.Event()
    try:
        make(alice, hanging.url, "vm")
        make(alice, receiver.url, "vm")
        for _ in range(8):
            happens("vm.changed")
        done = threading.Thread(target=tick)
        done.start()
        waited = threading.Event()
        for _ in range(100):
            if len(receiver.got) == 8:
                break
            waited.wait(0.1)
        assert len(receiver.got) == 8
        assert hanging.got == []
        hanging.goes_on.set()
        done.join(30)
    finally:
        hanging.goes_on.set()
        hanging.server.shutdown()
        hanging.server.server_close()


def test_pings_and_redeliveries(alice: User, bob: User, receiver: Receiver) -> None:
    actor = Actor(user=alice)
    webhook, _ = make(alice, receiver.url, "vm")
    webhooks.pause(actor, webhook)
    webhooks.send_test(actor, webhook)
    assert round_() == 1
    assert receiver.kinds() == ["ping"]
    delivery = webhook.deliveries.get()
    webhooks.redeliver(actor, delivery)
    with pytest.raises(Conflict):
        webhooks.redeliver(actor, delivery)
    round_()
    assert receiver.got[0][0]["webhook-id"] == receiver.got[1][0]["webhook-id"]
    with pytest.raises(Forbidden):
        webhooks.send_test(Actor(user=bob), webhook)
    assert not webhooks.visible_to(Actor(user=bob)).exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0/",
        "http://127.0.0.1/",
        "http://localhost:8000/",
        "http://[::1]/",
        "ftp://example.com/",
        "http://user:password@10.0.0.1/",
        "http://10.0.0.1:99999/",
        "nonsense",
    ],
)
def test_addresses_that_only_this_machine_may_ask_are_refused(alice: User, url: str) -> None:
    with pytest.raises(Invalid) as refused:
        make(alice, url)
    assert set(refused.value.errors) == {"url"}


def test_a_private_network_is_fine_and_an_address_is_looked_up_at_each_try(
    alice: User, receiver: Receiver, settings: Any
) -> None:
    assert addresses.look_up("https://10.1.2.3:8443/x?y=1").url == "https://10.1.2.3:8443/x?y=1"
    webhook, _ = make(alice, receiver.url)
    settings.WEBHOOK_ALLOW_LOOPBACK = False  # as if the name led elsewhere by now
    happens("vm.changed")
    round_()
    assert receiver.got == []
    assert "do not go to" in webhook.deliveries.get(kind="vm.changed").problem


def test_the_pages_make_show_test_and_delete_a_webhook(
    alice: User, receiver: Receiver, client: Client
) -> None:
    client.force_login(alice, "allauth.account.auth_backends.AuthenticationBackend")
    assert "No webhooks yet" in client.get("/webhooks/").content.decode()
    form = {"name": "chat", "url": "http://169.254.1.1/", "kinds": "vm, lease.ending"}
    refused = client.post("/webhooks/new/", form)
    assert (refused.status_code, b"do not go to" in refused.content) == (400, True)
    made = client.post("/webhooks/new/", form | {"url": receiver.url})
    assert b"whsec_" in made.content
    webhook = Webhook.objects.get()
    page = f"/webhooks/{webhook.pk}/"
    assert webhook.kinds == ["lease.ending", "vm"]
    assert b"whsec_" not in client.get(page).content
    client.post(f"{page}test/")
    round_()
    assert "204 in" in client.get(page).content.decode()
    delivery = webhook.deliveries.get()
    assert client.post(f"{page}deliveries/{delivery.pk}/").status_code == 303
    assert client.post(f"{page}pause/").status_code == 303
    assert b"paused" in client.get("/webhooks/").content
    assert client.post(f"{page}delete/").status_code == 303
    assert not Webhook.objects.exists()
