from __future__ import annotations

import json
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connection

from accounts.models import AuditEvent
from events.models import Event
from hosts import enrolment
from hosts.enrolment import TlsUntrusted, enrol, try_connection, update_host
from hosts.models import Health, Host, HostHealthChange, HostVM
from orchestrator.refusals import Forbidden, Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from accounts.actors import Actor
    from accounts.models import User
    from tests.hosts.conftest import Pool

pytestmark = pytest.mark.django_db
LOGIN = {"username": "root@localhost", "password": "simulated"}


@pytest.fixture(autouse=True)
def _short_limits(settings: Any, entries: Any) -> None:
    settings.HOST_PROBE_SECONDS = 0.5


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Serve fixed answers by path, for anything but a DevOps API that works."""
    servers: list[ThreadingHTTPServer] = []

    def serve(answers: dict[str, Any], context: ssl.SSLContext | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = answers.get(self.path, b"<html>no such page</html>")
                body = found if isinstance(found, bytes) else json.dumps(found).encode()
                kind = "text/html" if isinstance(found, bytes) else "application/json"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def refusal(**arguments: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        try_connection(**(LOGIN | arguments))
    assert caught.value.message.endswith((".", "…")), caught.value.message
    return caught.value


def fields(error: Invalid) -> set[str]:
    return set(error.errors)


def test_a_host_joins_with_its_inventory_and_takes_vms_at_once(pool: Pool, admin: Actor) -> None:
    pool.patch(vms=[{"name": "golden", "state": "running", "cpus": 3, "memory": 4096, "disk": 30}])

    host = enrol(admin, name=" mac1 ", url=pool.address(), tags=["ios", "ios", " m2 "], **LOGIN)

    host = Host.objects.get(pk=host.pk)
    assert (host.name, host.url) == ("mac1", f"{pool.address()}/api")
    assert host.tags == ["ios", "m2"]
    assert host.hardware_id and host.password == "simulated"
    assert host.status.health == Health.HEALTHY
    assert host.status.architecture == "arm64" and host.status.devops_version
    assert host.status.latency_ms and host.status.last_seen_at and host.status.inventory_at
    assert host.status.inventory_due_at > host.status.inventory_at + timedelta(seconds=60)
    assert host.capacity.cpus_total == 12
    assert host.capacity.cpus_foreign == 3
    assert host.capacity.free("cpus") == 12 - 1 - 3
    assert not host.capacity.overcommitted
    assert HostVM.objects.get(host=host).name == "golden"
    assert list(Host.objects.taking_vms()) == [host]
    assert HostHealthChange.objects.get(host=host).health == Health.HEALTHY
    assert Event.objects.filter(kind="host.enrolled", subject=f"host:{host.pk}").exists()


def test_no_secret_reaches_audit_events_or_the_database_in_clear(pool: Pool, admin: Actor) -> None:
    host = enrol(admin, name="mac1", url=pool.address(), **LOGIN)
    update_host(admin, host, api_key="sim:sim")

    told = [*AuditEvent.objects.values_list("data"), *Event.objects.values_list("data")]
    assert "simulated" not in repr(told) and "sim:sim" not in repr(told)
    with connection.cursor() as cursor:
        cursor.execute("SELECT password, api_key FROM hosts_host")
        assert "sim:sim" not in repr(cursor.fetchall())


def test_only_those_who_manage_hosts_enrol(
    pool: Pool, bob: User, actor_of: Callable[[User], Actor]
) -> None:
    with pytest.raises(Forbidden):
        enrol(actor_of(bob), name="mac1", url=pool.address(), **LOGIN)


def test_name_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    error = refusal(url="http://nosuchmac.example:3080")
    assert (error.code, fields(error)) == ("host_name_not_found", {"url"})
    assert "nosuchmac.example" in error.message


def test_refused() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    error = refusal(url=f"http://127.0.0.1:{port}")
    assert (error.code, fields(error)) == ("host_refused", {"url"})


def test_time_out(pool: Pool) -> None:
    pool.patch(hang=True)
    error = refusal(url=pool.address())
    assert (error.code, fields(error)) == ("host_timeout", {"url"})


def test_tls_not_trusted_shows_the_fingerprint_that_can_be_pinned(
    answering: Callable[..., str], tmp_path: Path
) -> None:
    context, fingerprint = self_signed(tmp_path)
    url = answering({"/api/health/probe": {"status": "OK"}}, context)

    error = refusal(url=url)
    assert isinstance(error, TlsUntrusted)
    assert (error.code, fields(error)) == ("host_tls_untrusted", {"tls_fingerprint"})
    assert error.fingerprint == fingerprint and fingerprint in error.message

    # Pinned, it is the next thing that is wrong.
    assert refusal(url=url, tls_fingerprint=fingerprint).code != "host_tls_untrusted"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"username": "root@localhost", "password": "wrong"}, "password"),
        ({"username": "", "password": "", "api_key": "sim:wrong"}, "api_key"),
        ({"username": "", "password": "", "api_key": "nonsense"}, "api_key"),
    ],
)
def test_wrong_credentials(pool: Pool, given: dict[str, str], field: str) -> None:
    error = refusal(url=pool.address(), **given)
    assert (error.code, fields(error)) == ("host_credentials", {field})


def test_not_a_devops_api(answering: Callable[..., str]) -> None:
    error = refusal(url=answering({}))
    assert (error.code, fields(error)) == ("host_not_devops", {"url"})


def test_unsupported_version(answering: Callable[..., str]) -> None:
    amount = {"logical_cpu_count": 1, "memory_size": 1, "disk_count": 1}
    names = ("system_reserved", "total", "total_available", "total_in_use", "total_reserved")
    hardware = {"cpu_type": "arm64", "devops_version": "3.1.0"} | dict.fromkeys(names, amount)
    url = answering({"/api/health/probe": {"status": "OK"}, "/api/v1/config/hardware": hardware})
    error = refusal(url=url, username="", password="", api_key="sim:sim")
    assert (error.code, fields(error)) == ("host_unsupported_version", {"url"})
    assert "3.1.0" in error.message


@pytest.mark.parametrize("fault", ["badjson", "wrongtype"])
def test_broken_answers(pool: Pool, fault: str) -> None:
    pool.patch(faults={fault: 1})
    error = refusal(url=pool.address())
    assert error.code in {"host_bad_answer", "host_not_devops"} and fields(error) == {"url"}


def test_an_error_of_the_host(pool: Pool) -> None:
    pool.patch(faults={"error500": 1})
    assert refusal(url=pool.address()).code == "host_failed"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "ftp://mac"}, "url"),
        ({"tls_fingerprint": "AA"}, "tls_fingerprint"),
        ({"username": "", "password": ""}, "username"),
        ({"password": ""}, "password"),
        ({"api_key": "sim:sim"}, "api_key"),
    ],
)
def test_bad_values_are_refused_before_any_call(given: dict[str, str], field: str) -> None:
    assert fields(refusal(**({"url": "http://127.0.0.1:9"} | given))) == {field}


@pytest.mark.parametrize("name", ["", "   ", "m" * 101, "two\nlines"])
def test_bad_names(pool: Pool, admin: Actor, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        enrol(admin, name=name, url=pool.address(), **LOGIN)
    assert fields(caught.value) == {"name"}


@pytest.mark.stores
def test_a_name_is_taken_once_ignoring_case(pool: Pool, admin: Actor) -> None:
    enrol(admin, name="mac1", url=pool.address(1), **LOGIN)
    with pytest.raises(Invalid) as caught:
        enrol(admin, name="MAC1", url=pool.address(2), **LOGIN)
    assert (caught.value.code, fields(caught.value)) == ("name_taken", {"name"})


@pytest.mark.stores
def test_a_url_is_enrolled_once_however_it_is_written(pool: Pool, admin: Actor) -> None:
    enrol(admin, name="mac1", url=pool.address(), **LOGIN)
    with pytest.raises(Invalid) as caught:
        enrol(admin, name="mac2", url=f"{pool.address()}/api/v1/", **LOGIN)
    assert (caught.value.code, fields(caught.value)) == ("host_enrolled", {"url"})
    assert "mac1" in caught.value.message


@pytest.mark.stores
@pytest.mark.parametrize(
    ("second", "code"),
    [({"name": "mac2", "k": 1}, "host_enrolled"), ({"name": "Mac1", "k": 2}, "name_taken")],
)
def test_of_two_at_once_the_second_is_refused(
    pool: Pool,
    admin: Actor,
    monkeypatch: pytest.MonkeyPatch,
    second: dict[str, Any],
    code: str,
) -> None:
    connect = enrolment.try_connection

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(enrolment, "try_connection", connect)
        url = pool.address(second["k"])
        enrol(admin, name=second["name"], url=url, allow_known_machine=True, **LOGIN)
        return connect(*arguments)

    monkeypatch.setattr(enrolment, "try_connection", overtaken)
    with pytest.raises(Invalid) as caught:
        enrol(admin, name="mac1", url=pool.address(1), allow_known_machine=True, **LOGIN)
    assert caught.value.code == code
    assert Host.objects.count() == 1


def test_the_same_machine_under_another_url_is_recognised(pool: Pool, admin: Actor) -> None:
    enrol(admin, name="mac1", url=pool.address(), **LOGIN)
    other = pool.address().replace("127.0.0.1", "localhost")
    with pytest.raises(Invalid) as caught:
        enrol(admin, name="mac2", url=other, **LOGIN)
    assert (caught.value.code, fields(caught.value)) == ("host_known_machine", {"url"})
    assert "mac1" in caught.value.message

    enrol(admin, name="mac2", url=other, allow_known_machine=True, **LOGIN)
    assert Host.objects.present().count() == 2


def test_a_machine_without_identity_is_recognised_by_all_its_vms(pool: Pool, admin: Actor) -> None:
    vms = [{"name": "a", "id": "{a}"}, {"name": "b", "id": "{b}"}]
    pool.patch(1, vms=vms)
    host = enrol(admin, name="mac1", url=pool.address(1), **LOGIN)
    Host.objects.update(hardware_id="")
    pool.patch(2, vms=[*vms, {"name": "c", "id": "{c}"}])  # two copies and one of its own
    enrol(admin, name="mac2", url=pool.address(2), **LOGIN)
    pool.patch(3, vms=vms)
    with pytest.raises(Invalid) as caught:
        enrol(admin, name="mac3", url=pool.address(3), **LOGIN)
    assert caught.value.code == "host_known_machine" and host.name in caught.value.message


def test_a_copied_vm_does_not_make_two_machines_one(pool: Pool, admin: Actor) -> None:
    for k in (1, 2):
        pool.patch(k, vms=[{"name": "golden", "id": "{golden}"}])
        enrol(admin, name=f"mac{k}", url=pool.address(k), **LOGIN)
    assert Host.objects.count() == 2


def test_a_removed_host_may_come_back(pool: Pool, admin: Actor) -> None:
    from hosts.removal import remove

    host = enrol(admin, name="mac1", url=pool.address(), **LOGIN)
    remove(admin, host, forget_vms=False)
    assert enrol(admin, name="mac1", url=pool.address(), **LOGIN).pk != host.pk


def test_an_unusual_machine_is_enrolled_degraded(pool: Pool, admin: Actor) -> None:
    pool.patch(clock_offset_seconds=600)
    host = enrol(admin, name="mac1", url=pool.address(), **LOGIN)
    host.status.refresh_from_db()
    assert host.status.health == Health.DEGRADED
    assert "10 minutes ahead" in host.status.reason


class TestUpdate:
    @pytest.fixture
    def host(self, pool: Pool, admin: Actor) -> Host:
        return enrol(admin, name="mac1", url=pool.address(), tags=["old"], **LOGIN)

    def test_name_and_tags(self, host: Host, admin: Actor) -> None:
        update_host(admin, host, name="mini", tags=["b", "a"])
        host.refresh_from_db()
        assert (host.name, host.tags) == ("mini", ["a", "b"])
        event = AuditEvent.objects.get(action="host.changed")
        assert event.data == {
            "before": {"name": "mac1", "tags": ["old"]},
            "after": {"name": "mini", "tags": ["a", "b"]},
        }

    def test_its_own_name_is_free_and_another_ones_is_not(
        self, host: Host, admin: Actor, pool: Pool
    ) -> None:
        enrol(admin, name="mac2", url=pool.address(2), **LOGIN)
        update_host(admin, host, name="MAC1")
        with pytest.raises(Invalid) as caught:
            update_host(admin, host, name="Mac2")
        assert fields(caught.value) == {"name"}

    def test_credentials_are_tried_first(self, host: Host, admin: Actor) -> None:
        with pytest.raises(Invalid) as caught:
            update_host(admin, host, password="wrong", name="never")
        assert caught.value.code == "host_credentials"
        host.refresh_from_db()
        assert (host.name, host.password) == ("mac1", "simulated")

    def test_a_key_takes_the_place_of_a_password_and_back(self, host: Host, admin: Actor) -> None:
        update_host(admin, host, api_key="sim:sim")
        host.refresh_from_db()
        assert (host.username, host.password, host.api_key) == ("", "", "sim:sim")
        update_host(admin, host, **LOGIN)
        host.refresh_from_db()
        assert (host.password, host.api_key) == ("simulated", "")

    def test_not_for_everybody(
        self, host: Host, bob: User, actor_of: Callable[[User], Actor]
    ) -> None:
        with pytest.raises(Forbidden):
            update_host(actor_of(bob), host, name="mine")


def self_signed(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Return a server's context with a new certificate that nobody signed, and its fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mac")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = folder / "mac.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context, certificate.fingerprint(hashes.SHA256()).hex(":").upper()
