"""From packages and environments to deltas and plans (sections 1, 2 and 7.2 of the rules)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from deployments import deployed, dictionaries, environments, specs
from deployments.deltas import matches
from deployments.models import Deployed, DeployedApplication
from deployments.planning import Operation
from deployments.prepared import Reached
from orchestrator.refusals import Conflict, Invalid, NotFound
from tests.deployments.conftest import orders, script, texts
from vms.models import VirtualMachine

pytestmark = pytest.mark.stores


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        ([], [], True),
        (["a"], [], False),
        ([], ["a"], False),
        (["*"], [], True),
        ([], ["*"], True),
        (["+"], ["a"], True),
        (["+"], [], False),
        (["a"], ["+"], True),
        (["a", "b"], ["b", "c"], True),
        (["a"], ["b"], False),
    ],
)
def test_tags_decide_what_fits_where(one, two, together):
    assert matches(one, two) is together


def operations(prepared):
    return {f"{one.deployed}@{one.container_name}": one.operation.value for one in prepared.deltas}


def test_initial_update_undeploy_and_the_record(fleet):
    first = fleet.package(
        deployables=[
            {"name": "app", "type": "file", "tags": ["web"], "content": "one",
             "properties": {"path": "/opt/app"}},
            script("setup", tags=["web"], undo="undo setup"),
            script("seed", tags=["db"]),
        ]
    )  # fmt: skip
    prepared = fleet.prepare(first)
    assert (prepared.kind, prepared.operation) == ("initial", Operation.CREATE)
    # Delta order: package order of deployables, then container name.
    assert [f"{one.deployed}@{one.container_name}" for one in prepared.deltas] == [
        *("app@web-1", "app@web-2", "setup@web-1", "setup@web-2", "seed@db-1"),
    ]
    assert set(operations(prepared).values()) == {"CREATE"}
    assert not DeployedApplication.objects.exists()  # preparing writes nothing
    deployed.record(prepared.as_json(), None)
    deployed.record(prepared.as_json(), None)  # again changes nothing
    everything = ["app@web-1", "app@web-2", "seed@db-1", "setup@web-1", "setup@web-2"]
    assert fleet.on() == {"Shop": ("1.0", everything)}

    # Unchanged: everything NOOP, nothing to run (E15, C34), and only the record to write.
    again = fleet.prepare(first)
    assert set(operations(again).values()) == {"NOOP"}
    assert (again.kind, again.plan) == ("update", None)

    second = fleet.package(
        version="2.0",
        deployables=[
            {"name": "app", "type": "file", "tags": ["web"], "content": "two",
             "properties": {"path": "/opt/app"}},
            script("setup", tags=["web"], undo="undo setup"),
            script("report", tags=["db"]),
        ],
    )  # fmt: skip
    update = fleet.prepare(second)
    assert operations(update) == {
        "app@web-1": "MODIFY",
        "app@web-2": "MODIFY",
        "setup@web-1": "NOOP",
        "setup@web-2": "NOOP",
        "report@db-1": "CREATE",
        "seed@db-1": "DESTROY",
    }
    changed = {one.deployed: one.differences for one in update.deltas}
    assert [one.property for one in changed["app"]] == ["checksum"]
    assert changed["setup"] == ()
    assert "no_undo" in {one.code for one in update.warnings}
    # Files: the old one goes at 30, the new one comes at 70; the seed had no undo: no step.
    assert Counter(orders(update.plan)) == {
        (30, "vm.remove_file"): 2,
        (70, "vm.upload"): 2,
        (70, "vm.execute"): 1,
    }
    deployed.record(update.as_json(), None)
    assert fleet.on()["Shop"][0] == "2.0"

    gone = fleet.undeploy(second)
    assert (gone.kind, gone.operation) == ("undeploy", Operation.DESTROY)
    assert set(operations(gone).values()) == {"DESTROY"}
    assert fleet.on() == {}
    with pytest.raises(NotFound, match="not deployed on Staging"):
        fleet.undeploy(second)


def test_unmapping_and_leaving_the_environment_destroy(fleet):
    package = fleet.package(deployables=[script("setup", tags=["web"], undo="back")])
    fleet.deploy(package)
    only = fleet.prepare(package, mapping={"setup": [fleet.path("web-2")]})
    assert operations(only) == {"setup@web-2": "NOOP", "setup@web-1": "DESTROY"}
    fleet.environment.members.filter(vm=fleet.vms["web-1"]).delete()
    left = fleet.prepare(package)
    assert operations(left) == {"setup@web-2": "NOOP", "setup@web-1": "DESTROY"}
    assert "no_member" in {one.code for one in left.warnings}
    with pytest.raises(Invalid, match="not a member"):
        fleet.prepare(package, mapping={"setup": [fleet.path("web-1")]})
    with pytest.raises(Invalid, match="no deployable other"):
        fleet.prepare(package, mapping={"other": []})


def test_forced_redeployment_undoes_and_does(fleet):
    package = fleet.package(
        deployables=[script("command1", tags=["db"], undo="back", undo_order=90)]
    )
    fleet.deploy(package)
    forced = fleet.prepare(package, options={"force_redeploy": True})
    assert texts(forced.plan) == ["Undo command1 on db-1", "Execute command1 on db-1"]
    # E10: its rollback is the same pair.
    back = specs.prepare_rollback(actor=fleet.alice, prepared=forced.as_json(), reached=None)
    assert texts(back.plan) == ["Undo command1 on db-1", "Execute command1 on db-1"]


def test_rollback_takes_back_what_was_reached(fleet):
    first = fleet.package(
        orchestrators=["parallel-by-container"],
        deployables=[
            {"name": "app", "type": "file", "tags": ["web"], "content": "one",
             "properties": {"path": "/opt/app"}},
            script("seed", tags=["db"], undo="unseed"),
        ],
    )  # fmt: skip
    initial = fleet.deploy(first)
    back = specs.prepare_rollback(actor=fleet.alice, prepared=initial.as_json(), reached=None)
    # Rolling back an initial deployment is an undeployment.
    assert (back.kind, back.operation) == ("rollback", Operation.DESTROY)
    assert set(operations(back).values()) == {"DESTROY"}

    second = fleet.package(
        version="2.0",
        orchestrators=["sequential-by-container"],
        deployables=[
            {"name": "app", "type": "file", "tags": ["web"], "content": "two",
             "properties": {"path": "/opt/app"}},
            script("seed", tags=["db"], undo="unseed"),
            script("extra", tags=["db"], undo="unextra"),
        ],
    )  # fmt: skip
    update = fleet.prepare(second)
    web1, web2 = fleet.path("web-1"), fleet.path("web-2")
    reached = [
        Reached("app", web1, "DESTROY"),
        Reached("app", web1),
        Reached("app", web2, "DESTROY"),
    ]
    deployed.record(update.as_json(), reached)
    row = DeployedApplication.objects.get()
    # E8: the books hold what was really done. web-2's file was removed and did not come back.
    assert (row.package, row.partial) == (second, True)
    assert fleet.on()["Shop"][1] == ["app@web-1", "seed@db-1"]
    assert "partial" in {one.code for one in fleet.prepare(second).warnings}

    back = specs.prepare_rollback(actor=fleet.alice, prepared=update.as_json(), reached=reached)
    assert back.operation is Operation.MODIFY  # of an update: an update back, not reversed
    assert operations(back) == {"app@web-1": "MODIFY", "app@web-2": "CREATE", "seed@db-1": "NOOP"}
    assert Counter(orders(back.plan)) == {(30, "vm.remove_file"): 1, (70, "vm.upload"): 2}
    deployed.record(back.as_json(), None)
    row.refresh_from_db()
    # E11: the deployed application is v1 again, with its orchestrators.
    assert (row.package, row.partial) == (first, False)
    assert row.orchestrators == ["parallel-by-container"]
    assert fleet.on()["Shop"][1] == ["app@web-1", "app@web-2", "seed@db-1"]
    kept = Deployed.objects.get(name="app", container=web2)
    assert kept.value["artifact"] == first.deployables.first().artifact.sha256


def test_where_orchestrators_come_from(fleet):
    plain = fleet.package("Plain", deployables=[script("one", tags=["*"])])
    own = fleet.package(
        "Own",
        orchestrators=["{{how}}-by-container"],
        deployables=[script("two", tags=["*"])],
    )
    assert fleet.prepare(plain).orchestrators_from == "default"
    values = dictionaries.create_dictionary(
        fleet.alice,
        name="Values",
        entries={
            specs.ORCHESTRATOR_KEY: 'rolling{"batch": [1, "50%"]}, parallel-by-deployed',
            "how": "parallel",
        },
    )
    with pytest.raises(Invalid, match="how"):
        fleet.prepare(own)
    environments.update_environment(fleet.alice, fleet.environment, dictionaries=[values])
    found = fleet.prepare(plain)
    assert found.orchestrators_from == "dictionary"
    assert found.orchestrators == ('rolling{"batch": [1, "50%"]}', "parallel-by-deployed")
    found = fleet.prepare(own)
    assert (found.orchestrators_from, found.orchestrators) == (
        "package",
        ("parallel-by-container",),
    )
    chosen = fleet.prepare(own, orchestrators=["sequential-by-container"])
    assert (chosen.orchestrators_from, chosen.plan.kind.value) == ("deployment", "serial")
    with pytest.raises(Invalid, match="did you mean parallel-by-container"):
        fleet.prepare(own, orchestrators=["parallel-by-containr"])
    deployed.record(chosen.as_json(), None)
    # Undeploying starts from what was used last; an update takes the package's.
    assert fleet.prepare(own, operation="undeploy").orchestrators == ("sequential-by-container",)
    assert fleet.prepare(own).orchestrators == ("parallel-by-container",)


def test_placeholders_and_secrets(fleet):
    package = fleet.package(
        deployables=[
            {"name": "conf", "type": "configuration", "tags": ["web"], "properties": {
                "path": "/etc/{{application.name}}.env",
                "values": {"PORT": "{{port}}", "PASSWORD": "{{password}}", "URL": "{{url}}"}}},
            {"name": "pause", "type": "wait", "tags": ["db"], "properties": {
                "seconds": "{{pause}}"}},
        ]
    )  # fmt: skip
    with pytest.raises(Invalid) as refusal:
        fleet.prepare(package)
    assert refusal.value.code == "placeholder_without_value"
    assert refusal.value.errors["placeholders"] == ["password", "pause", "port", "url"]
    assert "conf on web-1" in refusal.value.message
    common = dictionaries.create_dictionary(
        fleet.alice,
        name="Common",
        entries={"port": "80", "pause": "7", "url": "http://{{container.name}}:{{port}}/"},
        secrets={"password": "hush-hush"},
    )
    special = dictionaries.create_dictionary(
        fleet.alice, name="Special", entries={"port": "81"}, containers=[fleet.path("web-2")]
    )
    others = dictionaries.create_dictionary(
        fleet.alice,
        name="Others",
        entries={"port": "99"},
        applications=[fleet.package("Other").application],
    )
    environments.update_environment(
        fleet.alice, fleet.environment, dictionaries=[others, special, common]
    )
    prepared = fleet.prepare(package)
    values = {one.container_name: one.value.properties for one in prepared.deltas if one.value}
    # The first in order that has the key wins, where it is meant for application and container.
    assert values["web-1"]["values"]["URL"] == "http://web-1:80/"
    assert values["web-2"]["values"]["URL"] == "http://web-2:81/"
    assert values["web-1"]["path"] == "/etc/Shop.env"
    assert values["db-1"]["seconds"] == 7
    reference = f"{{{{secret:{common.pk}/password}}}}"
    assert values["web-1"]["values"]["PASSWORD"] == reference
    everything = str(prepared.as_json()) + str(specs.tree_of(prepared.plan))
    assert "hush" not in everything
    # It is put in when the step runs, and only then.
    shown, secrets = dictionaries.revealed(dict(values["web-1"]["values"]))
    assert (shown["PASSWORD"], set(secrets)) == ("hush-hush", {"hush-hush"})
    assert "hush" not in str(dictionaries.masked(values["web-1"]))
    deployed.record(prepared.as_json(), None)
    assert set(operations(fleet.prepare(package)).values()) == {"NOOP"}
    # A changed secret is a change, though nothing of it is kept.
    fingerprint = fleet.prepare(package).fingerprint
    dictionaries.update_dictionary(fleet.alice, common, secrets={"password": "louder"})
    changed = fleet.prepare(package)
    assert operations(changed)["conf@web-1"] == "MODIFY"
    assert changed.fingerprint != fingerprint
    dictionaries.update_dictionary(fleet.alice, common, entries={"pause": "soon"})
    with pytest.raises(Invalid, match="pause on db-1"):
        fleet.prepare(package)
    dictionaries.update_dictionary(fleet.alice, common, entries={"pause": "{{pause}}"})
    with pytest.raises(Invalid, match="leads back to itself"):
        fleet.prepare(package)


def test_placeholders_in_a_file(fleet):
    package = fleet.package(
        deployables=[
            {"name": "conf", "type": "file", "tags": ["db"],
             "content": "x={{x}} {{container.name}}",
             "properties": {"path": "/etc/x", "placeholders": True}},
        ]
    )  # fmt: skip
    values = dictionaries.create_dictionary(fleet.alice, name="V", entries={"x": "1"})
    environments.update_environment(fleet.alice, fleet.environment, dictionaries=[values])
    prepared = fleet.deploy(package)
    (step,) = [step for leaf in prepared.plan.leaves() for step in leaf.steps]
    assert step.action["placeholders"] == {"x": "1", "container.name": "db-1"}
    dictionaries.update_dictionary(fleet.alice, values, entries={"x": "2"})
    assert operations(fleet.prepare(package)) == {"conf@db-1": "MODIFY"}


def test_dependencies_come_along_and_hold(fleet):
    base = fleet.package("Base", "1.0", deployables=[script("base", tags=["db"], undo="x")])
    newer = fleet.package("Base", "1.4", deployables=[script("base", tags=["db"], undo="y")])
    fleet.package("Base", "2.0", deployables=[script("base", tags=["db"])])
    shop = fleet.package(
        "Shop",
        dependencies={"Base": "[1.0,2.0)"},
        deployables=[script("shop", tags=["web"], undo="z")],
    )
    order = ["sequential-by-dependency"]
    prepared = fleet.prepare(shop, orchestrators=order)
    # LATEST takes the newest in range; needed applications come first.
    assert [part.title for part in prepared.parts] == ["Shop 1.0", "Base 1.4"]
    assert [child.label for child in prepared.plan.children] == [
        "Deploy Base 1.4 on Staging",
        "Deploy Shop 1.0 on Staging",
    ]
    fleet.deploy(base)
    existing = fleet.prepare(shop, options={"resolution": "existing"})
    assert [part.title for part in existing.parts] == ["Shop 1.0"]  # what is there fits
    latest = fleet.deploy(shop, orchestrators=order)
    assert fleet.on()["Base"][0] == "1.4"
    assert [part.operation.value for part in latest.parts] == ["CREATE", "MODIFY"]
    # A person deployed Base, so it is no mere dependency.
    assert not DeployedApplication.objects.filter(as_dependency=True).exists()

    with pytest.raises(Conflict, match=r"Shop 1\.0 on Staging needs Base"):
        fleet.prepare(newer, operation="undeploy")
    with pytest.raises(Conflict, match=r"Shop 1\.0 on Staging needs Base \[1\.0,2\.0\)"):
        fleet.prepare(fleet.package("Base", "2.1"))
    too_new = fleet.package("Blog", dependencies={"Base": "[3.0,)"})
    with pytest.raises(Conflict, match=r"Blog 1\.0 needs Base \[3\.0,\), and there is no such"):
        fleet.prepare(too_new)
    fleet.undeploy(shop, options={"undeploy_dependencies": True})
    assert set(fleet.on()) == {"Base"}
    fleet.undeploy(newer)
    fleet.deploy(shop)
    assert DeployedApplication.objects.get(as_dependency=True).application.name == "Base"
    fleet.undeploy(shop, options={"undeploy_dependencies": True})
    assert fleet.on() == {}


def test_composites_are_flattened_and_ordered(fleet):
    for name in ("A", "B", "C"):
        fleet.package(name, deployables=[script(name.lower(), tags=["db"], undo="x")])
    member = lambda name: {"application": name, "version": "1.0"}  # noqa: E731
    fleet.package("Inner", packages=[member("C"), member("A")])
    suite = fleet.package("Suite", packages=[member("B"), member("Inner"), member("C")])
    orchestrators = ["sequential-by-composite-package"]
    prepared = fleet.deploy(suite, orchestrators=orchestrators)
    assert [child.label for child in prepared.plan.children] == [
        *("Deploy package B 1.0", "Deploy package C 1.0", "Deploy package A 1.0"),
    ]
    assert "duplicate_member" in {one.code for one in prepared.warnings}
    undeploy = fleet.prepare(suite, operation="undeploy")
    assert [child.label for child in undeploy.plan.children] == [
        *("Undeploy package A 1.0", "Undeploy package C 1.0", "Undeploy package B 1.0"),
    ]
    fleet.package("A2", deployables=[script("a", tags=["*"])])
    with pytest.raises(Invalid, match="Two deployables named a go to db-1"):
        fleet.prepare(fleet.package("Suite", "1.4", packages=[member("A"), member("A2")]))
    # Values that are only for a member's application are for it inside of a composite, too.
    echo = fleet.package("D", deployables=[script("d", tags=["db"], script="{{word}}", undo="x")])
    own = dictionaries.create_dictionary(
        fleet.alice, name="D", entries={"word": "hi"}, applications=[echo.application]
    )
    environments.update_environment(fleet.alice, fleet.environment, dictionaries=[own])
    with_d = fleet.prepare(fleet.package("Suite", "1.5", packages=[member("B"), member("D")]))
    assert [one.value.properties["script"] for one in with_d.deltas if one.value] == ["do b", "hi"]
    smaller = fleet.package("Suite", "2.0", packages=[member("A")])
    update = fleet.prepare(smaller, orchestrators=orchestrators, options={"force_redeploy": True})
    assert [child.label for child in update.plan.children] == [
        *("Update package A 1.0", "Update package B 1.0", "Update package C 1.0"),
    ]
    with pytest.raises(Conflict, match="has a a on db-1 already"):
        fleet.prepare(fleet.package("A", "1.1", deployables=[script("a", tags=["db"])]))


def test_a_vm_from_a_template_is_made_changed_and_deleted(fleet):
    environments.add_member(fleet.alice, fleet.environment, host=fleet.hosts[0], tags=["rack"])
    machine = {"name": "node", "type": "vm", "tags": ["rack"], "properties": {"template": "Ubuntu"}}
    package = fleet.package(deployables=[machine])
    prepared = fleet.prepare(package)
    assert orders(prepared.plan) == [
        *((60, "vm.create"), (61, "vm.wait"), (80, "vm.start"), (81, "vm.wait")),
    ]
    steps = [step for leaf in prepared.plan.leaves() for step in leaf.steps]
    key = ("node", f"host:{fleet.hosts[0].pk}")
    assert steps[0].action["name"] == "node-mac-1"
    assert steps[0].action["template"] == str(fleet.template.pk)
    assert (steps[0].checkpoint, steps[0].action["checkpoint"]) == (True, "CREATE")
    assert steps[1].action["container"] == {"created": list(key)}
    # It was made, and then something failed: the books have it, and a rollback deletes it.
    made = fleet.vm("node-mac-1")
    created = {key: str(made.pk)}
    reached = [Reached(*key, "CREATE")]
    deployed.record(prepared.as_json(), reached, created)
    assert Deployed.objects.get().created_vm == made
    back = specs.prepare_rollback(
        actor=fleet.alice, prepared=prepared.as_json(), reached=reached, created=created
    )
    assert orders(back.plan) == [(20, "vm.stop"), (40, "vm.delete")]
    deployed.record(prepared.as_json(), None, created)

    larger = {**machine, "properties": {"template": "Ubuntu", "cpus": 4}}
    update = fleet.prepare(fleet.package(version="1.1", deployables=[larger]))
    assert orders(update.plan) == [
        *((20, "vm.stop"), (62, "vm.reconfigure"), (80, "vm.start"), (81, "vm.wait")),
    ]
    renamed = {**machine, "properties": {"template": "Ubuntu", "vm_name": "other"}}
    anew = fleet.prepare(fleet.package(version="1.2", deployables=[renamed]))
    assert "vm_replaced" in {one.code for one in anew.warnings}
    assert [kind for _, kind in orders(anew.plan)][:3] == ["vm.stop", "vm.delete", "vm.create"]
    # Somebody deleted it behind our back: it is made again.
    VirtualMachine.objects.filter(pk=made.pk).update(state="deleted")
    assert orders(fleet.prepare(package).plan)[0] == (60, "vm.create")
    huge = {**machine, "properties": {"template": "Ubuntu", "cpus": 64}}
    crowded = fleet.prepare(fleet.package(version="1.3", deployables=[huge]))
    assert "no_capacity" in {one.code for one in crowded.warnings}
    fleet.template.grants.all().delete()
    with pytest.raises(Exception, match="no grant to use the template ubuntu"):
        fleet.prepare(fleet.package(version="1.4", deployables=[larger]))


def test_every_other_type_contributes_as_the_table_says(fleet):
    def package(version, **changes):
        properties: dict[str, Any] = {
            "svc": ("service", {"service": "nginx"}),
            "conf": ("configuration", {"path": "/etc/x", "values": {"a": 1}}),
            "state": ("state", {"state": "stopped"}),
            "snap": ("snapshot", {}),
            "health": ("check", {"probe": "port", "port": 80}),
            "hand": ("manual", {"instruction": "Look.", "undo": "Look away."}),
        }
        return fleet.package(
            version=version,
            deployables=[
                {"name": name, "type": kind, "tags": ["db"],
                 "properties": {**values, **changes.get(name, {})}}
                for name, (kind, values) in properties.items()
            ],
        )  # fmt: skip

    first = fleet.deploy(package("1"))
    assert orders(first.plan) == [
        *((1, "vm.snapshot"), (20, "vm.stop"), (50, "manual"), (60, "config.write")),
        *((90, "vm.service"), (99, "vm.snapshot"), (100, "check")),
    ]
    assert "guest_stopped" in {one.code for one in first.warnings}
    changes = {
        "svc": {"service": "httpd"},
        "conf": {"path": "/etc/y"},
        "state": {"state": "running"},
        "health": {"port": 81},
    }
    second = package("2", **changes)
    update = fleet.deploy(second)
    assert orders(update.plan) == [
        *((1, "vm.snapshot"), (10, "vm.service"), (40, "config.remove"), (60, "config.write")),
        *((80, "vm.start"), (90, "vm.service"), (99, "vm.snapshot"), (100, "check")),
    ]
    back = fleet.prepare(second, operation="undeploy")
    # The state goes back to what it was before the first deployment: running, as it is now.
    assert orders(back.plan) == [
        *((1, "vm.snapshot"), (10, "vm.service"), (40, "config.remove"), (50, "manual")),
        (99, "vm.snapshot"),
    ]


def test_a_restart_is_asked_for_once_per_leaf_and_vm(fleet):
    package = fleet.package(
        deployables=[
            script("one", tags=["web"], restart=True),
            script("two", tags=["web"], restart=True),
            script("three", tags=["db"]),
        ]
    )
    prepared = fleet.prepare(package, orchestrators=["parallel-by-container"])
    by_leaf = {leaf.key: orders(leaf) for leaf in prepared.plan.leaves()}
    restarted = [
        *((70, "vm.execute"), (70, "vm.execute"), (79, "vm.stop"), (80, "vm.start")),
        (81, "vm.wait"),
    ]
    assert by_leaf[fleet.path("web-1")] == restarted
    assert by_leaf[fleet.path("db-1")] == [(70, "vm.execute")]
    stop = next(step for leaf in prepared.plan.leaves() for step in leaf.steps if step.order == 79)
    assert {name for name, _ in stop.deployeds} == {"one", "two"}


def test_warnings_about_the_plan(fleet):
    package = fleet.package(
        deployables=[
            script("one", tags=["web"], restart=True),
            script("two", tags=["web"], restart=True),
        ]
    )  # fmt: skip

    def codes(*orchestrators, **options):
        found = fleet.prepare(package, orchestrators=orchestrators, **options)
        return {one.code for one in found.warnings}

    assert codes() == set()
    assert codes("parallel-by-deployed") == {"same_vm_at_once", "repeated_restart"}
    assert codes("sequential-by-deployment-group") == {"without_effect"}
    member = fleet.environment.members.get(vm=fleet.vms["web-1"])
    member.group = 1
    member.save()
    assert codes("sequential-by-deployment-group") == {"group_missing"}
    environments.update_environment(fleet.alice, fleet.environment, policy={"max_unavailable": 1})
    assert codes("parallel-by-container") == {"too_wide"}
    VirtualMachine.objects.filter(pk=fleet.vms["web-2"].pk).update(state="suspended")
    assert codes() == {"unreachable"}
    VirtualMachine.objects.filter(pk=fleet.vms["web-2"].pk).update(state="deleted")
    assert codes() == {"member_gone"}
    lonely = fleet.package("Lonely", deployables=[script("lost", tags=["nowhere"])])
    assert "unmapped" in {one.code for one in fleet.prepare(lonely).warnings}


def test_the_fingerprint_follows_everything_that_counts(fleet):
    package = fleet.package(deployables=[script("one", tags=["web"])])
    before = fleet.prepare(package).fingerprint
    assert fleet.prepare(package).fingerprint == before
    assert fleet.prepare(package, orchestrators=["default"]).fingerprint != before
    environments.update_environment(fleet.alice, fleet.environment, policy={"max_unavailable": 1})
    assert (limited := fleet.prepare(package).fingerprint) != before
    fleet.vm("web-3", tags=["web"])
    environments.add_member(fleet.alice, fleet.environment, tag="web")
    more = fleet.prepare(package)
    assert more.fingerprint != limited
    # A live query finds what has the tag; what is a member already is not doubled.
    assert [one.container_name for one in more.deltas] == ["web-1", "web-2", "web-3"]


def test_a_balancer_takes_members_out_by_the_scripts_of_the_environment(fleet):
    fleet.environment.members.filter(vm=fleet.vms["web-1"]).update(balancer="lb")
    package = fleet.package(deployables=[script("one", tags=["web"])])
    orchestrators = ["sequential-by-loadbalancer-group"]
    by_hand = fleet.prepare(package, orchestrators=orchestrators)
    assert orders(by_hand.plan)[0] == (10, "manual")
    balancer = {
        "vm": str(fleet.vms["db-1"].pk),
        "disable": "out {{member}}",
        "enable": "in {{member}}",
    }
    environments.update_environment(fleet.alice, fleet.environment, balancers={"lb": balancer})
    found = fleet.prepare(package, orchestrators=orchestrators)
    scripts = [step.action["script"] for leaf in found.plan.leaves() for step in leaf.steps]
    assert scripts == ["out web-1", "do one", "do one", "in web-1"]
