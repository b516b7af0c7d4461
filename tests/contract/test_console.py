"""The calls of the web console and of VS Code, in their order, against the running product."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from websockets.sync.client import connect

from tests.contract.running import PASSWORD, Site, finished
from tests.contract.test_machines import MANIFEST, POOL

if TYPE_CHECKING:
    import httpx

CONSOLE = {"X-SOURCE-ID": "DEVOPS_UI", "Content-Type": "application/json"}
EDITOR = {"X-SOURCE-ID": "VSCODE_EXTENSION", "X-LOGGING": "IGNORE"}
TYPES = "pdfm,health,orchestrator,stats,system_logs,reverse_proxy,job_manager,auth"


def read(tool: httpx.Client, path: str, *statuses: int) -> Any:
    answer = tool.get(path)
    assert answer.status_code in (statuses or (200,)), f"{path}: {answer.text}"
    assert answer.headers["Content-Type"] == "application/json", path
    return answer.json()


def test_the_console_boots_and_shows_its_pages(site: Site) -> None:
    with site.tool("root") as tool:
        tool.headers.update(CONSOLE)
        token = tool.headers["Authorization"].removeprefix("Bearer ")
        hardware = read(tool, "/config/hardware")
        assert {"cpu_type", "total", "total_available", "enabled_modules"} <= hardware.keys()
        url = f"{site.product.url}/api/v1/ws/subscribe?event_types={TYPES}&authorization={token}"
        with connect(url.replace("http://", "ws://")) as opened:
            assert json.loads(opened.recv(timeout=10))["event_type"] == "global"
            for path in ("/user/configs", "/jobs"):
                assert isinstance(read(tool, path), list)
            assert read(tool, "/orchestrator/overview/resources", 202)
            # The layout: changed, and made when there is none.
            slug = "/user/configs/vms%3A%3AlocalColumns"
            body = {"type": "json", "value": "{}"}
            assert tool.put(slug, json=body).status_code == 404
            made = body | {"slug": "vms::localColumns", "name": "columns"}
            assert tool.post("/user/configs", json=made).status_code == 201
            assert tool.put(slug, json=body).status_code == 200
            pages = [
                *("/machines", "/catalog", "/catalog-managers", "/orchestrator/hosts"),
                *("/auth/users", "/auth/roles", "/auth/claims", "/auth/claims/grouped"),
                *("/auth/api_keys", "/cache", "/reverse-proxy", "/reverse-proxy/hosts"),
            ]
            for path in pages:
                read(tool, path)
            assert read(tool, POOL, 202) == []
            assert tool.get("/version").status_code == 404
            for host in read(tool, "/orchestrator/hosts"):
                one = f"/orchestrator/hosts/{host['id']}"
                read(tool, f"{one}/machines", 202)
                for part in ("cache", "reverse-proxy", "reverse-proxy/hosts"):
                    read(tool, f"{one}/{part}")


def test_vs_code_runs_a_machine(site: Site) -> None:
    login = {"email": "bob", "password": PASSWORD}
    with site.tool("bob") as tool:
        tool.headers.update(EDITOR)
        assert tool.get(f"{site.product.url}/api/health/probe").json() == {"status": "OK"}
        del tool.headers["Authorization"]
        token = tool.post("/auth/token", json=login).json()["token"]
        tool.headers["Authorization"] = f"Bearer {token}"
        read(tool, "/config/hardware")
        body = {"name": "edited", "architecture": "arm64", "start_on_create": True}
        made = tool.post(POOL, json=body | {"catalog_manifest": MANIFEST})
        assert (made.status_code, made.json()["current_state"]) == (200, "running")
        for verb, state in (
            ("pause", "paused"),
            ("resume", "running"),
            ("suspend", "suspended"),
            ("start", "running"),
            ("stop", "stopped"),
        ):
            row = {"group": "state", "operation": verb, "value": ""}
            done = tool.put(f"{POOL}/{made.json()['id']}/set", json={"operations": [row]})
            assert done.status_code == 200, done.text
            (seen,) = read(tool, POOL, 202)
            assert (seen["Name"], seen["State"]) == ("edited", state)
        assert tool.delete(f"{POOL}/{made.json()['id']}").status_code == 202
        assert read(tool, POOL, 202) == []
    finished(site)
