"""What every path has in common: spellings, methods, headers, bodies, errors, CORS, filters."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client, RequestFactory

from compat.wire import bodies
from compat.wire.filters import filtered
from compat.wire.front import in_form
from compat.wire.paths import normal
from orchestrator.refusals import Invalid
from orchestrator.web.wire import refuse
from tests.contract.conftest import Tool, is_error

if TYPE_CHECKING:
    from compat.wire.bodies import Body


@pytest.mark.parametrize(
    ("path", "routed"),
    [
        ("/api/v1/machines", "/api/v1/machines"),
        ("/api/v1//machines/", "/api/v1/machines"),
        ("//api//v1/machines//x///start/", "/api/v1/machines/x/start"),
        ("/api/machines", "/api/v1/machines"),
        ("/api/health/probe", "/api/v1/health/probe"),
        ("/api/", "/api/v1"),
        ("/api", "/api/v1"),
        ("/api/v1/", "/api/v1"),
        ("/api/v1/v2/x", "/api/v1/v2/x"),
        ("/api/v2/vms/", None),
        ("/api//v2/vms/", None),
        ("/api/docs/", None),
        ("/apis/x", None),
        ("/", None),
        ("", None),
        ("/vms/", None),
    ],
)
def test_one_spelling_of_each_path_is_routed(path: str, routed: str | None) -> None:
    assert normal(path) == routed


@pytest.mark.parametrize(
    "path", ["/api/v1/health/system", "/api/v1//health//system/?full=true", "/api/health/system/"]
)
def test_no_spelling_is_redirected(stranger: Tool, path: str) -> None:
    response = stranger("get", path)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize("path", ["/nope", "/api/nope/", "/machines%0A/x", "/auth/%00"])
def test_what_is_no_path_is_a_404_in_json(stranger: Tool, method: str, path: str) -> None:
    assert is_error(stranger(method, path), 404)


def test_a_wrong_method_is_an_empty_405(stranger: Tool) -> None:
    response = stranger("post", "/health/probe", {})
    assert response.status_code == 405
    assert response.content == b""
    assert "GET" in response["Allow"]


def test_what_other_middleware_answers_has_this_apis_shape(stranger: Tool, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["elsewhere"]
    assert is_error(stranger("get", "/health/probe", Host="evil"), 400)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/api/v1//machines", "application/json"), ("/api/v2/vms/", "application/problem+json")],
)
def test_what_the_front_refuses_has_the_form_of_its_api(path: str, kind: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    retry = (b"retry-after", b"3")
    asyncio.run(refuse(in_form({"path": path}, send), 429, "Too many.", "rate_limited", retry))
    headers = dict(sent[0]["headers"])
    assert sent[0]["status"] == 429
    assert headers[b"content-type"] == kind.encode()
    assert headers[b"retry-after"] == b"3"
    assert int(headers[b"content-length"]) == len(sent[1]["body"])
    told = json.loads(sent[1]["body"])
    if kind == "application/json":
        assert told == {"message": "Too many.", "code": 429}


def test_headers_that_clients_send_are_let_be(stranger: Tool) -> None:
    response = stranger(
        "get",
        "/health/system?full=true",
        Upgrade="h2c",
        HTTP2_Settings="AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
        Connection="Upgrade, HTTP2-Settings",
        X_SOURCE_ID="DEVOPS_UI",
        X_LOGGING="IGNORE",
        X_No_Cache="true",
        Content_Type="application/json",
    )
    assert response.status_code == 200


def test_cors_is_off_by_default_and_echoes_a_listed_origin_alone(
    stranger: Tool, settings: Any
) -> None:
    asked = {"Origin": "https://ui.example", "Access_Control_Request_Method": "DELETE"}
    off = stranger("options", "/auth/users", **asked)
    assert off.status_code == 204
    assert not [name for name in off.headers if name.startswith("Access-Control")]

    settings.COMPAT_CORS_ORIGINS = ["https://ui.example"]
    preflight = stranger("options", "/auth/users", **asked)
    assert preflight["Access-Control-Allow-Origin"] == "https://ui.example"
    assert "PATCH" in preflight["Access-Control-Allow-Methods"]
    for name in ("authorization", "content-type", "x-source-id"):
        assert name in preflight["Access-Control-Allow-Headers"]
    for path in ("/health/probe", "/nope", "/auth/users"):
        answer = stranger("get", path, Origin="https://ui.example")
        assert answer["Access-Control-Allow-Origin"] == "https://ui.example"
        assert "Origin" in answer["Vary"]
    assert "Access-Control-Allow-Origin" not in stranger("get", "/health/probe", Origin="https://x")
    assert "Access-Control-Allow-Credentials" not in preflight

    settings.COMPAT_CORS_ORIGINS = ["*"]
    assert "Access-Control-Allow-Origin" in stranger("get", "/health/probe", Origin="https://x")


def test_the_other_api_is_left_alone(client: Client, db: None) -> None:
    response = client.get("/api/v2/me/", headers={"Origin": "https://ui.example"})
    assert response["Content-Type"] == "application/problem+json"


def _read(data: str | bytes = b"", kind: str = "application/json", query: str = "") -> Body:
    request = RequestFactory().generic("POST", f"/x?{query}", data, content_type=kind)
    return bodies.read(request)


def test_bodies_are_taken_in_every_form_that_clients_send() -> None:
    form = "application/x-www-form-urlencoded"
    for body in (
        _read('{"Name": "a", "new": 1}'),
        _read('{"NAME": "a"}', form),
        _read("name=a", form),
        _read('{"name": "a"}', "text/plain", "access_token=x"),
        _read(b"", form, "name=a"),
        _read('{"name": "a"}', query="name=other"),
    ):
        assert body.text("name") == "a"
        assert not body.has("access_token")
    multipart = RequestFactory().post("/x", {"name": "a"})
    assert bodies.read(multipart).text("name") == "a"
    assert not _read(b"", form)
    assert not _read(b"")


def test_values_have_the_types_that_clients_give_them() -> None:
    body = _read(
        '{"cpu": "4", "memory": 8192, "on": "true", "yes": true, "no": false, "tags": "a, b",'
        ' "none": null}'
    )
    assert (body.number("cpu"), body.number("memory"), body.text("memory")) == (4, 8192, "8192")
    assert [body.flag(name) for name in ("on", "yes", "no", "none")] == [True, True, False, False]
    assert body.texts("tags") == ["a", "b"]
    assert body.get("absent", "cpu") == "4"
    assert not body.has("none")
    assert body.inner("none").text("x") == ""


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"a": NaN}', "\x00", '{"a":' * 100_000, '"x"', "plain"]
)
def test_what_cannot_be_read_is_a_400(text: str) -> None:
    with pytest.raises(Invalid):
        _read(text)


@pytest.mark.parametrize(
    ("body", "reader"),
    [
        ('{"a": {}}', "text"),
        ('{"a": "\\u0000"}', "text"),
        ('{"a": "\\ud800"}', "text"),
        ('{"a": [1]}', "texts"),
        ('{"a": 1.5}', "number"),
        ('{"a": true}', "number"),
        ('{"a": "1e400"}', "number"),
        ('{"a": 99999999999999999999}', "number"),
        ('{"a": "perhaps"}', "flag"),
        ('{"a": 1}', "inner"),
        ('{"a": [1]}', "rows"),
        ('{"a": 1}', "secret"),
    ],
)
def test_values_of_another_type_are_a_400(body: str, reader: str) -> None:
    with pytest.raises(Invalid):
        getattr(_read(body), reader)("a")


ROWS = [
    {"Name": "tf-vm", "Hardware": {"cpu": {"cpus": 4}}, "tags": ["ios", "m2"], "on": True},
    {"Name": "tf-vm2", "Hardware": {"cpu": {"cpus": 2}}, "tags": []},
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, ["tf-vm", "tf-vm2"]),
        ("Name=tf-vm", ["tf-vm"]),
        ("name=TF-VM", ["tf-vm"]),
        ("Name=tf-vm.*", ["tf-vm", "tf-vm2"]),
        ("hardware.cpu.cpus=4", ["tf-vm"]),
        ("Tags=io", ["tf-vm"]),
        ("tags=IOS", []),
        ("tags=IOS,i", ["tf-vm"]),
        ("on=true", ["tf-vm"]),
        ("colour=red", []),
        ("Name=(tf|x)-vm\\d?", ["tf-vm", "tf-vm2"]),
        ("Name=[a-u]{2}-vm$", ["tf-vm"]),
        ("Name=^tf-[^0-9]+$", ["tf-vm"]),
        ("Name=(?:tf-)?vm2", ["tf-vm2"]),
        ("Name=x|tf-vm", ["tf-vm"]),
    ],
)
def test_filters_find(text: str | None, names: list[str]) -> None:
    assert [row["Name"] for row in filtered(ROWS, text)] == names


@pytest.mark.parametrize(
    "text",
    [
        *("Name", "=x", "Name=a=b", "Name=(", "Name=a)", "Name=*", "Name=[a", "Name=\\"),
        *("Name=(?=a)", "Name=\\1", "Name=a{x}", "Name=a{9999}", "Name=[z-a]"),
        *("Name=" + "(" * 99, "Name=" + "a" * 999),
    ],
)
def test_filters_that_are_none_are_a_400(text: str) -> None:
    with pytest.raises(Invalid):
        filtered(ROWS, text)


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|aa)*b", "(.*)(.*)(.*)(.*)(.*)x", "((a*)*)*b"])
def test_no_expression_takes_long(expression: str) -> None:
    """Each of these takes Python's `re` longer than anybody waits."""
    rows = [{"id": "a" * 1000} for _ in range(200)]
    begun = time.process_time()
    with pytest.raises(Invalid):
        filtered(rows, f"id={expression}")
    assert time.process_time() - begun < 2
