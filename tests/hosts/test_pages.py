"""The pages of hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse
from django.utils import timezone

from hosts import enrolment
from hosts.drivers.base import ErrorKind, HostError
from hosts.enrolment import TlsUntrusted
from hosts.models import Host, HostCapacity, HostHold, HostStatus, HostVM
from jobs.models import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User

HTMX = {"HTTP_HX_REQUEST": "true"}
FINGERPRINT = ":".join(["AB"] * 32)


def url(name: str, host: Host | None = None, *more: str) -> str:
    return reverse(f"hosts:{name}", args=[host.pk, *more] if host else [])


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def make(name: str, **options: Any) -> Host:
    """Return a host as polling would have left it."""
    health = options.pop("health", "healthy")
    reason = options.pop("reason", "")
    host = Host.objects.create(
        name=name,
        url=f"http://{name}.test:8080",
        username="root",
        password="s3cret",
        **options,
    )
    HostStatus.objects.create(
        host=host,
        health=health,
        reason=reason,
        architecture="arm64",
        last_seen_at=timezone.now(),
        latency_ms=12,
    )
    HostCapacity.objects.create(
        host=host,
        cpus_total=12,
        cpus_reserved=1,
        cpus_charged=4,
        memory_mib_total=65_536,
        disk_gib_total=1000,
        macos_slots_total=2,
    )
    return host


@pytest.fixture
def as_alice(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


VALUES = {
    "name": "mac-9",
    "url": "https://mac-9.test",
    "username": "root",
    "password": "s3cret-pw",
    "tags": "fast, rack-2",
}


def test_a_host_is_enrolled_by_page(as_alice: Client, simulation: Any) -> None:
    simulation.reset()
    answer = as_alice.post(
        url("new"),
        VALUES
        | {
            "url": simulation.host_url(1),
            "username": "root@localhost",
            "password": "simulated",
        },
    )
    host = Host.objects.get()
    assert (answer.status_code, answer["Location"]) == (303, url("detail", host))
    assert host.tags == ["fast", "rack-2"]
    page = text(as_alice.get(url("detail", host)))
    assert "healthy" in page
    assert "simulated" not in page


def test_a_refusal_is_shown_at_its_field_and_no_secret_is_sent_back(
    as_alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        enrolment._refuse(
            HostError(ErrorKind.REFUSED, "mac-9.test:443 refused the connection."),
            enrolment.Connection("https://mac-9.test"),
        )

    monkeypatch.setattr(enrolment, "try_connection", refuse)
    answer = as_alice.post(url("new"), VALUES, **HTMX)
    assert answer.status_code == 400
    page = text(answer)
    assert "refused the connection" in page
    assert "s3cret-pw" not in page
    assert "<html" not in page


def test_an_untrusted_certificate_is_shown_and_can_be_pinned(
    as_alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def untrusted(actor: Any, *, tls_fingerprint: str, **_: Any) -> None:
        given.append(tls_fingerprint)
        raise TlsUntrusted("The certificate is not trusted.", FINGERPRINT)

    monkeypatch.setattr(enrolment, "enrol", untrusted)
    first = text(as_alice.post(url("new"), VALUES, **HTMX))
    assert FINGERPRINT in first
    assert 'name="pin"' in first
    as_alice.post(url("new"), VALUES | {"shown_fingerprint": FINGERPRINT, "pin": "on"})
    as_alice.post(url("new"), VALUES | {"shown_fingerprint": FINGERPRINT})
    assert given == ["", FINGERPRINT, ""]


def test_a_known_machine_is_enrolled_only_when_that_is_said(
    as_alice: Client, simulation: Any
) -> None:
    simulation.reset()
    values = VALUES | {"username": "root@localhost", "password": "simulated"}
    as_alice.post(url("new"), values | {"url": simulation.host_url(1)})
    # The same machine by another name.
    other = simulation.host_url(1).replace("127.0.0.1", "localhost")
    answer = as_alice.post(url("new"), values | {"url": other, "name": "mac-10"})
    assert answer.status_code == 400
    assert 'name="allow_known_machine"' in text(answer)
    assert Host.objects.count() == 1
    as_alice.post(url("new"), values | {"url": other, "name": "m2", "allow_known_machine": "on"})
    assert Host.objects.count() == 2


def test_holds_with_their_reason_are_seen_by_everybody(
    as_alice: Client, client: Client, audrey: User
) -> None:
    host = make("mac-1")
    empty = as_alice.post(url("hold", host, "cordon"), {"reason": " "}, **HTMX)
    assert empty.status_code == 422
    answer = as_alice.post(url("hold", host, "cordon"), {"reason": "new disk"})
    assert answer["Location"] == url("detail", host)
    assert as_alice.post(url("hold", host, "disable"), {"reason": "moved"}).status_code == 303
    client.force_login(audrey)
    for page in (client.get(url("list")), client.get(url("detail", host))):
        assert "new disk" in text(page)
        assert "moved" in text(page)
    cordon = HostHold.objects.get(kind="cordon")
    end = reverse("hosts:end-hold", args=[host.pk, cordon.pk])
    assert client.post(end).status_code == 403
    client.force_login(cordon.by)  # type: ignore[arg-type]
    assert client.post(end).status_code == 303
    assert [hold.kind for hold in HostHold.objects.live()] == ["disable"]
    assert client.post(end, **HTMX).status_code == 409
    assert client.get(url("hold", host, "holiday")).status_code == 404
    assert client.get(url("hold", host, "quarantine")).status_code == 404


def test_a_window_is_planned_shown_and_taken_back_and_a_drain_shows_its_progress(
    as_alice: Client,
) -> None:
    host = make("mac-1")
    window = {"reason": "macOS 27", "starts_at": "2099-01-01T10:00", "until": "2099-01-01T12:00"}
    wrong = as_alice.post(url("maintain", host), {**window, "until": "2098-01-01T12:00"})
    assert (wrong.status_code, "ends after its beginning" in text(wrong)) == (400, True)
    assert as_alice.post(url("maintain", host), window).status_code == 303
    page = text(as_alice.get(url("detail", host)))
    assert "Planned maintenance" in page
    planned = HostHold.objects.planned().get()
    as_alice.post(reverse("hosts:end-hold", args=[host.pk, planned.pk]))
    assert "Planned maintenance" not in text(as_alice.get(url("detail", host)))

    drain = reverse("vms:drain", args=[host.pk])
    assert "0 of ours are there" in text(as_alice.get(drain, **HTMX))
    assert as_alice.post(drain, {"reason": "disk", "policy": "wait"}).status_code == 303
    assert "0 of 0 VMs are left" in text(as_alice.get(url("detail", host)))


def test_a_host_is_changed_looked_at_and_removed(as_alice: Client) -> None:
    host = make("mac-1", tags=["old"])
    assert 'value="old"' in text(as_alice.get(url("edit", host), **HTMX))
    assert as_alice.post(url("edit", host), {"name": "mac-2", "tags": "a,b"}).status_code == 303
    host.refresh_from_db()
    assert (host.name, host.tags) == ("mac-2", ["a", "b"])
    assert as_alice.post(url("look", host)).status_code == 303
    assert Job.objects.filter(kind="host.inventory", subject=f"host:{host.pk}").exists()
    assert "None of our VMs is on it." in text(as_alice.get(url("remove", host), **HTMX))
    answer = as_alice.post(url("remove", host), {})
    assert answer["Location"] == url("list")
    assert as_alice.get(url("detail", host)).status_code == 404


def test_the_credentials_page_shows_no_secret_and_tries_first(
    as_alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make("mac-1")
    given: dict[str, Any] = {}

    def change(actor: Any, host: Host, **values: Any) -> Host:
        given.update(values)
        return host

    monkeypatch.setattr(enrolment, "update_host", change)
    page = text(as_alice.get(url("connection", host)))
    assert 'value="root"' in page
    assert "s3cret" not in page
    as_alice.post(url("connection", host), {"username": "root", "password": "new"})
    assert given == {
        "username": "root",
        "password": "new",
        "api_key": None,
        "tls_fingerprint": "",
    }


def test_vms_on_a_host_are_marked_ours_or_foreign(as_alice: Client) -> None:
    host = make("mac-1")
    for name, claimed in (("build-1-ABC", True), ("somebodys", False)):
        HostVM.objects.create(
            host=host,
            host_vm_id=name,
            name=name,
            state="running",
            type="pvm",
            claimed=claimed,
            seen_at=timezone.now(),
        )
    page = text(as_alice.get(url("detail", host)))
    assert "foreign" in page
    assert "somebodys" in page
    assert "1 foreign" in text(as_alice.get(url("list")))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "mac-1"}, {"mac-1"}),
        ({"health": "unreachable"}, {"mac-2"}),
        ({"tag": "schnell–ß"}, {"mac-1"}),
        ({"tag": "schnell"}, set()),
        ({"hold": "cordon"}, {"mac-3"}),
        ({"architecture": "x86_64"}, set()),
        ({"architecture": "arm64"}, {"mac-1", "mac-2", "mac-3"}),
    ],
)
def test_the_list_is_narrowed(as_alice: Client, query: dict[str, str], found: set[str]) -> None:
    make("mac-1", tags=["schnell–ß"])
    make("mac-2", health="unreachable", reason="It refused the connection.")
    HostHold.objects.create(host=make("mac-3"), kind="cordon", reason="new disk")
    page = text(as_alice.get(url("list"), query, **HTMX))
    assert {name for name in ("mac-1", "mac-2", "mac-3") if f">{name}<" in page} == found


def test_who_may_not_see_hosts(client: Client, bob: User, charlie: User) -> None:
    host = make("mac-1")
    assert client.get(url("list")).status_code == 302
    for person in (bob, charlie):
        client.force_login(person)
        assert client.get(url("list")).status_code == 403
        assert client.get(url("detail", host)).status_code == 404
        assert client.post(url("remove", host)).status_code == 404


def test_the_list_costs_the_same_however_long_it_is(
    as_alice: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    make("mac-000")
    with django_assert_max_num_queries(9) as few:
        as_alice.get(url("list"))
    for number in range(1, 60):
        make(f"mac-{number:03}")
    with django_assert_max_num_queries(9) as many:
        page = text(as_alice.get(url("list")))
    assert len(few) == len(many)
    assert "mac-049" in page
    assert "mac-050" not in page
    assert "mac-050" in text(as_alice.get(url("list"), {"page": "2"}))
    with django_assert_max_num_queries(16):
        as_alice.get(url("detail", Host.objects.first()))
