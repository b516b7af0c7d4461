"""The running product as tools meet it: a pool, an image, a base VM, and Bob who may use both."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.product import until
from tests.support.team import ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.product import Product
    from tests.support.simulation import Simulation

PASSWORD = "correct horse battery"
RECORDED = Path(__file__).with_name("requests")
LOGIN = {"username": "root@localhost", "password": "simulated"}
LEASE = {"default_lease_seconds": 3600, "maximum_lease_seconds": 7200, "lease_end": "delete"}
SIZE = {"cpus": 2, "memory_mib": 2048, "disk_gib": 20}


@dataclass
class Site:
    """The product with two Macs and a PC, and clients of its APIs."""

    product: Product
    simulation: Simulation
    admin: httpx.Client
    hosts: dict[str, str] = field(default_factory=dict)  # ids by name

    def log_in(self, username: str) -> str:
        """Return an access token of the compatible API."""
        body = {"email": username, "password": PASSWORD}
        url = f"{self.product.url}/api/v1/auth/token"
        return str(ok(httpx.post(url, json=body, timeout=30))["token"])

    def tool(self, username: str = "bob") -> httpx.Client:
        """Return a client of the compatible API that has logged in."""
        return httpx.Client(
            base_url=f"{self.product.url}/api/v1",
            headers={"Authorization": f"Bearer {self.log_in(username)}"},
            timeout=90,
        )


def make_site(product: Product, simulation: Simulation) -> Site:
    """Enrol two Macs and a PC (`--arch mixed`); add images, a base VM, templates, Bob's grants."""
    simulation.reset()
    site = Site(product, simulation, product.api(product.token("admin")))
    make = site.admin.post
    base = {"id": "{base-1}", "name": "base-ubuntu", "cpus": 2, "memory": 2048, "disk": 20}
    simulation.control(1, vms=[base | {"state": "stopped"}])
    for number in (1, 2, 3):
        body = {"name": f"mac-{number}", "url": simulation.host_url(number), **LOGIN}
        site.hosts[body["name"]] = ok(make("/hosts/", json=body))["id"]
    for username, role in {"bob": "Developer", "eve": "Developer", "root": "Administrator"}.items():
        account = {"username": username, "password": PASSWORD, "roles": [role]}
        ok(make("/users/", json=account))
    ok(make("/sources/", json={"name": "catalog", "connection": "host=u:p@http://127.0.0.1:9"}))
    images = [
        ok(
            make(
                "/images/",
                json={
                    "source": "catalog",
                    "catalog_id": "ubuntu-2404",
                    "version": "1.0.0",
                    "architecture": architecture,
                    "type": "pvm",
                },
            )
        )["id"]
        for architecture in ("arm64", "x86_64")
    ]
    made: list[dict[str, Any]] = [
        {"name": "ubuntu-ci", "images": images, "os": "linux"},
        {"name": "ubuntu-base", "clone_of": "base-ubuntu", "os": "linux"},
    ]
    for template in made:
        ok(make("/templates/", json=template | SIZE | LEASE))
        for username in ("bob", "root"):
            grant = {"template": template["name"], "user": username, "level": "use"}
            ok(make("/grants/", json=grant))
    return site


def finished(site: Site) -> None:
    """Delete what a test left, and wait until it is gone."""
    for vm in ok(site.admin.get("/vms/", params={"open": "true"}))["results"]:
        site.admin.delete(f"/vms/{vm['id']}/")
    until(
        lambda: not ok(site.admin.get("/vms/", params={"open": "true"}))["results"],
        60,
        "every VM has ended",
    )


@dataclass
class Exchange:
    """One recorded call of a tool, and what its server answered."""

    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    answer: Any


def recorded(name: str) -> Iterator[Exchange]:
    """Return the calls of a file of `requests/`, in order."""
    text = (RECORDED / f"{name}.txt").read_text()
    for block in re.split(r"(?m)^\[\d+\] ", text)[1:]:
        first, *lines = block.strip().splitlines()
        method, path = first.split(" ", 1)
        headers, body, status, answer = {}, "", 0, None
        for line in lines:
            line = line.strip()
            if line.startswith("request headers: "):
                pairs = line.removeprefix("request headers: ").split("; ")
                headers = dict(pair.split(": ", 1) for pair in pairs)
            elif line.startswith("request body: "):
                body = line.removeprefix("request body: ")
            elif line.startswith("-> "):
                code, _, said = line.removeprefix("-> ").partition(" ")
                status, answer = int(code), _parsed(said.strip())
        yield Exchange(method, path.strip(), headers, body, status, answer)


def _parsed(text: str) -> Any:
    """Return the recorded JSON; long answers were cut, and lose what does not fit in whole."""
    while text:
        try:
            return json.loads(text)
        except ValueError:
            text = text.removesuffix("}").rpartition(', "')[0] + "}"
    return None
