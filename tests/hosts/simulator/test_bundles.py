"""The folders of VMs on a simulated host: left behind, registered again, kept over a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def size(sim: Any, path: str) -> int | None:
    answer = sim.call("POST", "/config/diskspace", headers={}, json={"folder_path": path})
    return answer.json().get("given_path_size")


def test_a_delete_leaves_nothing(sim: Any) -> None:
    vm = sim.call("GET", f"/machines/{sim.make('build-1')['id']}").json()
    home = vm["Home"].rstrip("/")
    assert vm["Home path"] == f"{home}/config.pvs"
    assert size(sim, home) == 64 * 1024 // 4
    assert sim.call("DELETE", "/machines/build-1?force=true").status_code == 202
    assert size(sim, home) is None
    assert sim.look()["bundles"] == []


def test_keepbundle_leaves_the_folder_which_may_be_registered_again(sim: Any) -> None:
    vm = sim.make("build-1")
    free = sim.call("GET", "/config/hardware").json()["total_available"]["prl_home_free_size"]
    sim.patch(faults={"keepbundle": 1})
    sim.call("DELETE", "/machines/build-1?force=true")
    (home,) = sim.patch(faults={"keepbundle": 0})["bundles"]
    assert size(sim, home) == 64 * 1024 // 4
    hardware = sim.call("GET", "/config/hardware").json()
    assert hardware["total_available"]["prl_home_free_size"] == free

    path = {"path": f"{home}/", "machine_name": "again", "owner": "ci"}
    again = sim.call("POST", "/machines/register", json=path)
    assert again.status_code == 200
    assert (again.json()["ID"], again.json()["Name"], again.json()["user"]) == (
        vm["id"],
        "again",
        "ci",
    )
    assert again.json()["Home"] == f"{home}/"
    assert sim.call("POST", "/machines/register", json=path).status_code == 400
    sim.call("DELETE", "/machines/again?force=true")
    assert size(sim, home) is None
    assert sim.call("POST", "/machines/register", json=path).status_code == 404


def test_keepname_leaves_another_vm_of_the_name(sim: Any) -> None:
    vm = sim.make("build-1")
    sim.patch(faults={"keepname": 1})
    sim.call("DELETE", "/machines/build-1?force=true")
    (left,) = [one for one in sim.look()["vms"] if one["name"] == "build-1"]
    assert left["id"] != vm["id"]


def test_unregister_keeps_the_folder(sim: Any) -> None:
    sim.make("build-1", start_on_create=False)
    answer = sim.call("POST", "/machines/build-1/unregister", json={"id": "build-1"})
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert [path.rpartition("/")[2] for path in sim.look()["bundles"]] == ["build-1.pvm"]


def test_folders_survive_a_restart(simulator: Callable[..., Any], tmp_path: Path) -> None:
    flags = ("--boot-seconds", 0, "--clone-seconds", 0, "--state", tmp_path / "pool.json")
    first = simulator(*flags)
    first.make("build-1")
    first.patch(faults={"keepbundle": 1})
    first.call("DELETE", "/machines/build-1?force=true")
    kept = first.look()["bundles"]
    first.process.terminate()
    first.process.wait(10)
    assert len(kept) == 1
    assert simulator(*flags).look()["bundles"] == kept
