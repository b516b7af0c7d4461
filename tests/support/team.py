"""A team at work with the product over its API: hosts, a template, Bob with a grant and a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.product import until

if TYPE_CHECKING:
    import httpx

    from tests.support.product import Product
    from tests.support.simulation import Simulation


@dataclass
class Team:
    """What the tests of running processes share."""

    product: Product
    simulation: Simulation
    admin: httpx.Client
    bob: httpx.Client
    grant: dict[str, Any]

    def vm(self, vm_id: str) -> dict[str, Any]:
        return ok(self.admin.get(f"/vms/{vm_id}/"))

    def ask(self, client: httpx.Client | None = None, **wanted: Any) -> dict[str, Any]:
        """Ask for a VM without waiting."""
        answer = (client or self.bob).post("/vms/", json={"template": "ubuntu-ci", **wanted})
        assert answer.status_code == 202, answer.text
        return answer.json()

    def until_state(self, vm_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            vm = self.vm(vm_id)
            return vm if vm["state"] in states else None

        found: dict[str, Any] = until(reached, seconds, f"VM {vm_id} is {' or '.join(states)}")
        return found

    def delete_all(self) -> None:
        """Delete every VM and wait until hosts and charges show that they are gone."""
        for vm in ok(self.admin.get("/vms/", params={"open": "true"}))["results"]:
            self.admin.delete(f"/vms/{vm['id']}/")
        until(
            lambda: not ok(self.admin.get("/vms/", params={"open": "true"}))["results"],
            60,
            "every VM has ended",
        )
        until(lambda: set(self.charged().values()) == {0}, 60, "every charge is released")

    def charged(self) -> dict[str, int]:
        """Return the CPUs charged on each host, by its name."""
        hosts = ok(self.admin.get("/hosts/"))["results"]
        return {host["name"]: host["capacity"]["cpus"]["charged"] for host in hosts}


def ok(answer: httpx.Response) -> Any:
    """Return the body of a successful answer."""
    assert answer.is_success, f"{answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


def make_team(
    product: Product,
    simulation: Simulation,
    *,
    addresses: bool = False,
    password: str = "simulated",
    connection: str = "host=u:p@http://127.0.0.1:9",
    **template: Any,
) -> Team:
    """Enrol the simulated hosts, make a template and grant it to Bob, all by API.

    With `addresses` each host is enrolled under the address of its own.
    """
    url_of = simulation.address_url if addresses else simulation.host_url
    simulation.reset()
    admin = product.api(product.token("admin"))
    ok(admin.post("/users/", json={"username": "bob", "roles": ["Developer"]}))
    count = len(simulation.control()["hosts"])
    for number in range(1, count + 1):
        ok(
            admin.post(
                "/hosts/",
                json={
                    "name": f"mac-{number}",
                    "url": url_of(number),
                    "username": "root@localhost",
                    "password": password,
                },
            )
        )
    ok(admin.post("/sources/", json={"name": "catalog", "connection": connection}))
    image = ok(
        admin.post(
            "/images/",
            json={
                "source": "catalog",
                "catalog_id": "ubuntu",
                "version": "24.04",
                "architecture": "arm64",
                "type": "pvm",
            },
        )
    )
    ok(
        admin.post(
            "/templates/",
            json={
                "name": "ubuntu-ci",
                "images": [image["id"]],
                "cpus": 2,
                "memory_mib": 2048,
                "disk_gib": 20,
                "default_lease_seconds": 3600,
                "maximum_lease_seconds": 7200,
                "lease_end": "delete",
                **template,
            },
        )
    )
    grant = ok(
        admin.post("/grants/", json={"template": "ubuntu-ci", "user": "bob", "level": "use"})
    )
    bob = product.api(product.token("bob", "vms"))
    return Team(product, simulation, admin, bob, grant)
