"""Each way a call can go wrong, from a real server or from none."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hosts.drivers import (
    DEFAULT_LIMITS,
    Connection,
    CreateSpec,
    Driver,
    ErrorKind,
    HostError,
    Limits,
    open_async_driver,
    open_driver,
)

QUICK = Limits(login_seconds=0.4, probe_seconds=0.4, list_seconds=0.4, state_seconds=0.4)
SECRETS = ("pass-word-1", "catalog-pw", "s3cr3t-key", "eyJhbGciOi", "sim-secret")


def driver_of(host: Any, limits: Limits = DEFAULT_LIMITS, **changes: str) -> Driver:
    return open_driver("parallels", host.connection(**changes), limits=limits)


def driver_at(url: str, limits: Limits = QUICK) -> Driver:
    return open_driver("parallels", Connection(url, "root@localhost", "pass-word-1"), limits=limits)


def failure(call: Callable[[], object]) -> HostError:
    with pytest.raises(HostError) as caught:
        call()
    error = caught.value
    assert error.message == str(error)
    assert error.message.endswith(".") and len(error.message) < 900
    assert not any(secret in f"{error!r} {error} {error.__cause__!r}" for secret in SECRETS)
    copy = pickle.loads(pickle.dumps(error))
    assert copy.__dict__ == error.__dict__
    return error


def both_probes(url: str, limits: Limits = QUICK) -> Iterator[HostError]:
    """The probe by thread and by loop; both must mean the same."""

    async def poll() -> float:
        driver = open_async_driver("parallels", Connection(url), limits=limits)
        try:
            return await driver.probe()
        finally:
            await driver.aclose()

    yield failure(lambda: driver_at(url, limits).probe())
    yield failure(lambda: asyncio.run(poll()))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound but does not listen, so that nobody else takes it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose queue takes connections that nobody ever accepts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_name_not_found() -> None:
    for error in both_probes("http://no-such-host.invalid:3080/api", DEFAULT_LIMITS):
        assert error.kind is ErrorKind.NAME_NOT_FOUND
        assert "no-such-host.invalid" in error.message
        assert not error.permanent and not error.outcome_unknown


def test_refused(closed_port: int) -> None:
    for error in both_probes(f"http://127.0.0.1:{closed_port}/api"):
        assert error.kind is ErrorKind.REFUSED
        assert f"127.0.0.1:{closed_port} refused" in error.message
    for error in both_probes(f"http://localhost:{closed_port}/api"):
        assert error.kind is ErrorKind.REFUSED


def test_timeout(silent_port: int) -> None:
    begun = time.monotonic()
    for error in both_probes(f"http://127.0.0.1:{silent_port}/api"):
        assert error.kind is ErrorKind.TIMEOUT
        assert not error.permanent and not error.outcome_unknown
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_trickle_is_cut_at_the_limit(make_host: Any, reply: Any, part: str) -> None:
    """Each byte comes in time, the whole never does."""
    host = make_host()

    def drip(ended: threading.Event) -> Iterator[bytes]:
        yield b"["
        for _ in range(100):
            if not ended.wait(0.05):
                yield b" "

    if part == "body":
        host.route("GET", "/health/probe", reply(chunks=drip))
        url = host.url
    else:
        url = f"http://127.0.0.1:{_dripping_head(host.ended)}/api"
    begun = time.monotonic()
    for error in both_probes(url):
        assert error.kind is ErrorKind.TIMEOUT
    assert time.monotonic() - begun < 15


def _dripping_head(ended: threading.Event) -> int:
    """Serve a status line and then one header character after the other."""
    server = socket.create_server(("127.0.0.1", 0))

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
            for _ in range(100):  # not for ever: a driver without a limit must fail, not hang
                if ended.wait(0.05):
                    return
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    def serve() -> None:
        with server:
            for _ in range(2):
                threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(server.getsockname()[1])


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"",
    ],
)
def test_lost_mid_way(make_host: Any, reply: Any, raw: bytes) -> None:
    host = make_host()
    host.route("GET", "/health/probe", reply(raw=raw))
    for error in both_probes(host.url):
        assert error.kind is ErrorKind.DISCONNECTED


def test_reset(host: Any, reply: Any) -> None:
    host.route("PUT", "/machines/a/start", reply(reset=True))
    error = failure(lambda: driver_of(host).start("a"))
    assert error.kind is ErrorKind.DISCONNECTED
    assert error.outcome_unknown


@pytest.mark.parametrize(
    "values",
    [
        {"content_type": "text/html", "content": b"<html>"},
        {"content_type": "application/jsonp", "body": {"status": "OK"}},
        {"content_type": "", "body": {"status": "OK"}},
        {"body": {"health": "fine"}},
        {"status": 404, "content_type": "text/plain", "content": b"404 page not found"},
        {"status": 301, "headers": {"Location": "/elsewhere"}, "content": b""},
        {"status": 401, "content_type": "text/html", "content": b"log in"},
        {"raw": b"SSH-2.0-OpenSSH_9.2\r\n\r\n"},
    ],
)
def test_not_a_devops_api(make_host: Any, reply: Any, values: dict[str, Any]) -> None:
    host = make_host()
    host.route("GET", "/health/probe", reply(**values))
    host.route("GET", "/v1/config/hardware", reply(**values))
    for error in both_probes(host.url):
        assert error.kind is ErrorKind.NOT_DEVOPS
        assert error.permanent
    if "body" not in values or "content_type" in values:
        error = failure(driver_of(host).hardware)
        assert error.kind is ErrorKind.NOT_DEVOPS


def test_another_service_without_a_login(make_host: Any) -> None:
    error = failure(driver_of(make_host()).hardware)
    assert error.kind is ErrorKind.NOT_DEVOPS
    host = make_host()
    host.routes.clear()
    assert failure(driver_of(host).list_vms).kind is ErrorKind.NOT_DEVOPS


def test_charset_is_accepted(host: Any, reply: Any) -> None:
    json = reply(body={"status": "OK"}, content_type="Application/JSON ; charset=utf-8")
    host.route("GET", "/health/probe", json)
    assert driver_of(host).probe() > 0


@pytest.mark.parametrize("version", ["", "0.8.9", "2.0.0", "10.1", "latest", "v0.1"])
def test_unsupported_version(host: Any, hardware_json: dict[str, Any], version: str) -> None:
    host.answer("GET", "/v1/config/hardware", hardware_json | {"devops_version": version})
    error = failure(driver_of(host).hardware)
    assert error.kind is ErrorKind.UNSUPPORTED_VERSION
    assert (version or "no version") in error.message


@pytest.mark.parametrize("version", ["0.9", "0.10.2", "1.0.5", "v1.12.0-beta"])
def test_supported_version(host: Any, hardware_json: dict[str, Any], version: str) -> None:
    host.answer("GET", "/v1/config/hardware", hardware_json | {"devops_version": version})
    assert driver_of(host).hardware().devops_version == version


DIAGNOSTICS = {"message": "Invalid user or Password", "code": 404, "diagnostics": {"errors": []}}


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, {"error": "unauthorized_client"}), (404, DIAGNOSTICS), (400, {"message": "empty"})],
)
def test_wrong_credentials(host: Any, status: int, body: dict[str, Any]) -> None:
    host.answer("POST", "/v1/auth/token", body, status)
    error = failure(lambda: driver_of(host).delete("a", force=True))
    assert error.kind is ErrorKind.CREDENTIALS
    assert error.permanent and not error.outcome_unknown and error.status == status
    assert "user name and password" in error.message


def test_wrong_api_key(host: Any) -> None:
    host.answer("GET", "/machines", {"error": "unauthorized_client"}, 401)
    error = failure(driver_of(host, api_key="sim:sim-secret").list_vms)
    assert error.kind is ErrorKind.CREDENTIALS
    assert "API key" in error.message


BROKEN = [
    b"",
    b'{"status": ',
    b"\xff\xfe{}",
    b'{"a": NaN}',
    b"[" * 200_000,
    b"1" * 10_000,
    b"null",
    b"[]",
    b'"OK"',
    b'{"status": 5}',
    b'{"status": "DOWN"}',
]


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:12]))
def test_broken_answers(make_host: Any, reply: Any, content: bytes) -> None:
    host = make_host()
    host.route("GET", "/health/probe", reply(content=content))
    host.route("GET", "/machines", reply(content=content if content != b"[]" else b"{}"))
    for error in both_probes(host.url):
        assert error.kind is ErrorKind.BAD_ANSWER
        assert not error.permanent
    assert failure(driver_of(host).list_vms).kind is ErrorKind.BAD_ANSWER


@pytest.mark.parametrize(
    "values",
    [
        {"content_type": "text/html", "content": b"<html>"},
        {"status": 307, "headers": {"Location": "http://127.0.0.1:9/"}, "content": b""},
        {"headers": {"Content-Encoding": "gzip"}, "content": b"\x1f\x8b"},
        {"raw": b"SSH-2.0-OpenSSH_9.2\r\n\r\n"},
    ],
)
def test_a_known_host_that_answers_badly(host: Any, reply: Any, values: dict[str, Any]) -> None:
    host.route("GET", "/machines", reply(**values))
    error = failure(driver_of(host).list_vms)
    assert error.kind is ErrorKind.BAD_ANSWER
    assert not error.permanent and not error.outcome_unknown


def test_not_found_and_rejected(host: Any) -> None:
    host.answer("GET", "/machines/a", {"message": "error 404: Virtual machine a not found"}, 404)
    error = failure(lambda: driver_of(host).read_vm("a"))
    assert (error.kind, error.status) == (ErrorKind.NOT_FOUND, 404)
    assert "Virtual machine a not found" in error.message
    host.answer(
        "DELETE", "/machines/a", {"message": "error 400: it is running", "stack": [{}]}, 400
    )
    error = failure(lambda: driver_of(host).delete("a", force=False))
    assert error.kind is ErrorKind.REJECTED
    assert error.permanent and not error.outcome_unknown
    host.answer("DELETE", "/machines/a", {"message": "busy"}, 429)
    assert not failure(lambda: driver_of(host).delete("a", force=False)).permanent


def test_host_failed(host: Any) -> None:
    host.answer("GET", "/machines", {"message": "panic"}, 500)
    error = failure(driver_of(host).list_vms)
    assert (error.kind, error.permanent, error.outcome_unknown) == (
        ErrorKind.HOST_FAILED,
        False,
        False,
    )
    host.answer("GET", "/health/probe", None, 502)
    assert failure(driver_of(host).probe).kind is ErrorKind.HOST_FAILED


def test_too_large_is_cut_whatever_length_was_declared(host: Any, reply: Any) -> None:
    sent = 0

    def flood(ended: threading.Event) -> Iterator[bytes]:
        nonlocal sent
        while not ended.is_set():
            sent += 2**20
            yield b" " * 2**20

    host.route("GET", "/machines", reply(chunks=flood))
    error = failure(driver_of(host).list_vms)
    assert error.kind is ErrorKind.TOO_LARGE
    assert "32 MiB" in error.message
    assert sent < 2**20 * 64
    fits = Limits(max_answer_bytes=1024)
    host.route("GET", "/machines", reply(content=b"[]" + b" " * 1022))
    assert driver_of(host, fits).list_vms() == ()
    host.route("GET", "/machines", reply(content=b"[]" + b" " * 1023))
    assert failure(driver_of(host, fits).list_vms).kind is ErrorKind.TOO_LARGE


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"hang": True}, ErrorKind.TIMEOUT),
        ({"reset": True}, ErrorKind.DISCONNECTED),
        ({"status": 500, "body": {"message": "panic"}}, ErrorKind.HOST_FAILED),
        ({"status": 503, "content": b"", "content_type": ""}, ErrorKind.HOST_FAILED),
        ({"content": b"{"}, ErrorKind.BAD_ANSWER),
        ({"body": {"status": 5}}, ErrorKind.BAD_ANSWER),
        ({"content_type": "text/html", "content": b"<html>"}, ErrorKind.BAD_ANSWER),
        ({"status": 302, "content": b""}, ErrorKind.BAD_ANSWER),
        ({"content": b" " * 2000}, ErrorKind.TOO_LARGE),
    ],
)
def test_a_change_whose_outcome_is_unknown(
    host: Any, reply: Any, values: dict[str, Any], kind: ErrorKind
) -> None:
    limits = Limits(state_seconds=0.4, max_answer_bytes=1000)
    host.route("PUT", "/machines/a/start", reply(**values))
    error = failure(lambda: driver_of(host, limits).start("a"))
    assert error.kind is kind
    assert error.outcome_unknown


def test_a_change_that_was_never_sent(
    closed_port: int, silent_port: int, host: Any, reply: Any
) -> None:
    error = failure(lambda: driver_at(f"http://127.0.0.1:{closed_port}/api").start("a"))
    assert not error.outcome_unknown
    # the login hung, the change was not sent
    error = failure(lambda: driver_at(f"http://127.0.0.1:{silent_port}/api").start("a"))
    assert (error.kind, error.outcome_unknown) == (ErrorKind.TIMEOUT, False)
    host.route("POST", "/v1/auth/token", reply(500, {"message": "panic"}))
    error = failure(lambda: driver_of(host).start("a"))
    assert (error.kind, error.outcome_unknown) == (ErrorKind.HOST_FAILED, False)


def test_secrets_stay_out_of_errors_and_logs(host: Any, reply: Any, caplog: Any) -> None:
    connection = (
        "host=ci@example.com:catalog-pw@https://c.example;provider=aws;secret_key=s3cr3t-key"
    )
    spec = CreateSpec("n", "arm64", "C", "1", connection, "pvm", 1, 1024, False)

    def echo(seen: Any) -> Any:
        words = f"{connection} {seen.headers['authorization']} pass-word-1 at s3cr3t-key"
        return reply(500, {"message": f"no room: {words}"})

    caplog.set_level(logging.DEBUG)
    host.route("POST", "/machines/async", echo)
    driver = driver_of(host)
    error = failure(lambda: driver.create(spec, "job-1"))
    assert "no room" in error.message
    shown = f"{spec!r} {driver!r} {host.connection()!r} {caplog.text}"
    assert not any(secret in shown for secret in SECRETS)


def test_environment_proxies_are_ignored(host: Any, monkeypatch: Any, closed_port: int) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    assert driver_of(host).probe() > 0
    driver = open_async_driver("parallels", host.connection())
    assert asyncio.run(driver.probe()) > 0
