"""The pages of templates, grants and VMs, as people of each kind see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse

from accounts import tokens
from accounts.models import AuditEvent
from jobs.models import Job
from tests.vms.conftest import reread
from vms import grants, verbs
from vms.forms import DurationField, as_duration, parse_duration
from vms.models import Grant, Template, VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from tests.vms.conftest import Pool, Worker

HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def as_alice(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def as_bob(client: Client, bob: User) -> Client:
    client.force_login(bob)
    return client


def url(name: str, thing: Any = None) -> str:
    return reverse(f"vms:{name}", args=[thing.pk] if thing else [])


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("45m", 2700), ("8h", 28_800), ("1d 12h", 129_600), ("2 days", 172_800), ("90 s", 90)],
)
def test_durations_are_read_as_people_write_them(written: str, seconds: int) -> None:
    assert parse_duration(written) == seconds
    assert parse_duration(as_duration(seconds)) == seconds


@pytest.mark.parametrize("written", ["", "5", "h", "-3h", "0s", "1x", "9999999999d"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_duration(written)


def test_a_duration_field_shows_what_it_reads() -> None:
    field = DurationField()
    assert field.clean(field.prepare_value(129_600)) == 129_600


def test_a_stranger_is_sent_to_sign_in(client: Client, db: None) -> None:
    for name in ("list", "new", "templates", "new-template"):
        answer = client.get(url(name))
        assert answer.status_code == 302
        assert "/accounts/login/" in answer["Location"]


def test_a_template_is_made_changed_granted_and_revoked_by_page(
    pool: Pool, as_alice: Client, bob: User
) -> None:
    values = {
        "name": "macos-ci",
        "description": "For builds.",
        "images": [str(pool.image.pk)],  # type: ignore[union-attr]
        "os": "linux",
        "cpus": 2,
        "memory_mib": 4096,
        "disk_gib": 64,
        "host_tags": "fast, ssd",
        "default_lease_seconds": "2h",
        "maximum_lease_seconds": "1d",
        "lease_end": "stop",
        "start": "on",
    }
    answer = as_alice.post(url("new-template"), values)
    template = Template.objects.get(name="macos-ci")
    assert (answer.status_code, answer["Location"]) == (303, url("template", template))
    assert template.host_tags == ["fast", "ssd"]
    assert (template.default_lease_seconds, template.maximum_lease_seconds) == (7200, 86_400)

    edit = as_alice.get(url("edit-template", template))
    assert 'value="2 h"' in text(edit)
    assert as_alice.post(url("edit-template", template), values | {"cpus": 3}).status_code == 303
    template.refresh_from_db()
    assert template.cpus == 3

    wrong = as_alice.post(url("edit-template", template), values | {"cpus": 100_000}, **HTMX)
    assert wrong.status_code == 400
    assert "is-invalid" in text(wrong)
    assert "<html" not in text(wrong)

    answer = as_alice.post(
        url("grant", template), {"user": str(bob.pk), "level": "use", "maximum_vms": 2}
    )
    assert answer.status_code == 303
    grant = Grant.objects.get(template=template, user=bob)
    assert grant.maximum_vms == 2

    assert as_alice.get(url("revoke-template", template)).status_code == 200
    assert (
        as_alice.post(url("revoke-template", template), {"running_vms": "keep"}).status_code == 303
    )
    assert "Revoked" in text(as_alice.get(url("template", template)))


def test_a_grant_to_nobody_is_refused_on_the_form(pool: Pool, as_alice: Client) -> None:
    answer = as_alice.post(url("grant", pool.template), {"level": "use"}, **HTMX)
    assert answer.status_code == 400
    assert "Name either a user or a role." in text(answer)


def test_the_list_says_why_a_template_may_be_used_and_until_when(
    pool: Pool, as_bob: Client
) -> None:
    page = text(as_bob.get(url("templates")))
    assert "ubuntu-ci" in page
    assert "granted to you" in page
    Grant.objects.filter(pk=pool.grant.pk).update(  # type: ignore[union-attr]
        expires_at=datetime.now(UTC) - timedelta(hours=2)
    )
    page = text(as_bob.get(url("templates")))
    assert "expired" in page
    assert "2 h ago" in page


def test_revoking_a_grant_shows_what_it_hits_first_and_does_as_chosen(
    pool: Pool, client: Client, alice: User, worker: Worker
) -> None:
    client.force_login(alice)
    running, waiting = pool.ask(name="running"), pool.ask(name="waiting", cpus=11, priority=0)
    worker.finish(running.create_job)  # type: ignore[arg-type]
    tokens.create_token(pool.bob, name="nightly", scopes=["vms"])
    preview = text(client.get(url("revoke-grant", pool.grant), **HTMX))
    assert "2 VMs rest on it" in preview
    assert "1 token loses this template: nightly (bob)." in preview
    for vm in (running, waiting):
        assert vm.name in preview
    assert 'type="radio"' in preview
    assert not Grant.objects.get(pk=pool.grant.pk).revoked_at  # type: ignore[union-attr]
    answer = client.post(url("revoke-grant", pool.grant), {"running_vms": "delete"})
    assert answer["Location"] == url("template", pool.template)
    assert reread(running).state == "deleting"


def test_bob_may_not_manage_and_charlie_sees_nothing(
    pool: Pool, client: Client, bob: User, charlie: User
) -> None:
    vm = pool.ask()
    client.force_login(bob)
    assert client.get(url("edit-template", pool.template)).status_code == 403
    assert client.get(url("revoke-grant", pool.grant)).status_code == 403
    assert client.get(url("new-template")).status_code == 403
    client.force_login(charlie)
    for name, thing in [
        ("template", pool.template),
        ("detail", vm),
        ("delete", vm),
        ("revoke-grant", pool.grant),
        ("placement", vm),
    ]:
        assert client.get(url(name, thing)).status_code == 404
    assert client.post(url("start", vm)).status_code == 404
    assert vm.name not in text(client.get(url("list")))


def test_a_vm_is_asked_for_by_page_and_shown_as_it_comes_to_be(
    pool: Pool, as_bob: Client, worker: Worker
) -> None:
    form = text(as_bob.get(url("new") + f"?template={pool.template.pk}"))  # type: ignore[union-attr]
    assert "ubuntu-ci" in form
    assert 'name="host"' not in form
    answer = as_bob.post(
        url("new"),
        {
            "template": str(pool.template.pk),  # type: ignore[union-attr]
            "name": "build-7",
            "lease_seconds": "30m",
            "priority": 7,
            "tags": "nightly",
        },
    )
    vm = VirtualMachine.objects.get(name="build-7")
    assert answer["Location"] == url("detail", vm)
    assert (vm.lease_seconds, vm.priority, vm.tags) == (1800, 7, ["nightly"])
    assert "Waiting for a host." in text(as_bob.get(url("detail", vm)))

    worker.finish(vm.create_job)  # type: ignore[arg-type]
    part = text(as_bob.get(url("detail", vm), **HTMX))
    vm = reread(vm)
    assert vm.ip_address in part
    assert "<html" not in part
    assert f"live:vm:{vm.pk}" in part
    assert "cached" in part  # a part of the score
    assert vm.host.name in part  # type: ignore[union-attr]


def test_a_refused_request_is_shown_on_the_form(pool: Pool, as_bob: Client) -> None:
    values = {"template": str(pool.template.pk), "priority": 5}  # type: ignore[union-attr]
    answer = as_bob.post(url("new"), values | {"name": "-x-"}, **HTMX)
    assert answer.status_code == 400
    assert "beginning and ending with a letter or digit" in text(answer)
    as_bob.post(url("new"), values | {"name": "twice"})
    again = as_bob.post(url("new"), values | {"name": "twice"})
    assert again.status_code == 409
    assert "A VM of this name exists." in text(again)
    grants.revoke_grant(pool.alice, pool.grant)  # type: ignore[arg-type]
    assert as_bob.post(url("new"), values).status_code == 422  # no template is left to choose


def test_the_verbs_of_a_vm(pool: Pool, as_bob: Client, worker: Worker) -> None:
    vm = pool.ask()
    worker.finish(vm.create_job)  # type: ignore[arg-type]

    answer = as_bob.post(url("execute", vm), {"command": "echo hi", "timeout_seconds": "30s"})
    assert answer.status_code == 303
    worker.finish(Job.objects.get(kind="vm.execute"))
    page = text(as_bob.get(url("detail", vm)))
    assert "echo hi" in page
    assert "exit code 0" in page
    worker.finish(verbs.execute(pool.bob, reread(vm), script="echo of a script"))
    assert "echo of a script</code>" in text(as_bob.get(url("detail", vm)))

    assert as_bob.post(url("extend", vm), {"seconds": "2h"}).status_code == 303
    too_long = as_bob.post(url("extend", vm), {"seconds": "9d"}, **HTMX)
    assert too_long.status_code == 400
    assert "allow leases of 1 to 7200 seconds" in text(too_long)

    refused = as_bob.post(url("start", vm), **HTMX)
    assert refused.status_code == 409
    assert "This VM is running" in text(refused)

    assert as_bob.post(url("stop", vm), {"force": "on"}).status_code == 303
    assert Job.objects.get(kind="vm.stop").payload["force"] is True
    worker.finish(Job.objects.get(kind="vm.stop"))
    assert "Start" in text(as_bob.get(url("detail", vm)))
    assert as_bob.post(url("start", vm)).status_code == 303
    worker.finish(Job.objects.get(kind="vm.start"))
    assert as_bob.post(url("suspend", vm)).status_code == 303
    worker.finish(Job.objects.get(kind="vm.suspend"))
    assert "Delete" in text(as_bob.get(url("delete", vm), **HTMX))
    assert as_bob.post(url("delete", vm)).status_code == 303
    worker.finish(Job.objects.get(kind="vm.delete"))
    assert reread(vm).state == "deleted"
    ended = text(as_bob.get(url("detail", vm)))
    assert url("delete", vm) not in ended
    assert vm.name not in text(as_bob.get(url("list")))
    assert vm.name in text(as_bob.get(url("list") + "?state="))


def test_the_form_for_commands_stays_on_the_page_and_is_clean_again(
    pool: Pool, as_bob: Client, worker: Worker
) -> None:
    vm = pool.ask()
    worker.finish(vm.create_job)  # type: ignore[arg-type]
    here = HTMX | {"HTTP_HX_CURRENT_URL": f"http://testserver{url('detail', vm)}"}
    wrong = as_bob.post(url("execute", vm), {"command": "echo", "timeout_seconds": "x"}, **here)
    assert wrong.status_code == 422
    assert "is-invalid" in text(wrong)
    right = as_bob.post(url("execute", vm), {"command": "echo", "timeout_seconds": "9s"}, **here)
    assert right["HX-Trigger"] == "console:done"
    assert "is-invalid" not in text(right)
    assert "echo</textarea>" in text(right)
    # A refresh brings the form, for whom it was not there yet, in a place that is never morphed.
    refresh = text(as_bob.get(url("detail", vm), **HTMX))
    assert refresh.index("hx-morph-skip") < refresh.index('id="command-form"')


def test_the_page_says_why_a_vm_is_not_on_another_host(
    pool: Pool, as_alice: Client, alice: User
) -> None:
    vm = pool.ask(pool.alice, template=pool.template, host=pool.hosts[1])
    page = text(as_alice.get(url("placement", vm), {"host": str(pool.hosts[0].pk)}))
    assert "another host was picked" in page
    assert AuditEvent.objects.filter(subject=vm.subject).exists()
    assert "vm.requested" in text(as_alice.get(url("detail", vm)))


def test_a_host_that_does_not_answer_makes_its_vms_unknown(
    pool: Pool, as_bob: Client, worker: Worker
) -> None:
    vm = pool.ask()
    worker.finish(vm.create_job)  # type: ignore[arg-type]
    host = reread(vm).host
    type(host.status).objects.filter(host=host).update(health="unreachable")  # type: ignore[union-attr]
    assert "unknown, was running" in text(as_bob.get(url("detail", vm)))
    assert "unknown, was running" in text(as_bob.get(url("list")))


def test_lists_are_narrowed(pool: Pool, as_alice: Client) -> None:
    pool.ask(name="bobs-vm")
    pool.ask(pool.alice, template=pool.template, name="own-vm")
    mine = text(as_alice.get(url("list"), {"whose": "mine"}))
    assert "own-vm" in mine
    assert "bobs-vm" not in mine
    bobs = text(as_alice.get(url("list"), {"owner": "bob", "state": "pending"}, **HTMX))
    assert "bobs-vm" in bobs
    assert "own-vm" not in bobs
    assert "No VM is like that" in text(as_alice.get(url("list"), {"q": "nothing"}))


def test_lists_cost_the_same_however_long_they_are(
    pool: Pool, as_alice: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for number in range(3):
        pool.ask(name=f"one-{number}")
    with django_assert_max_num_queries(10) as few:
        as_alice.get(url("list"))
    for number in range(9):
        pool.ask(name=f"more-{number}")
    with django_assert_max_num_queries(10) as many:
        as_alice.get(url("list"))
    assert len(few) == len(many)
    with django_assert_max_num_queries(9):
        as_alice.get(url("templates"))
    with django_assert_max_num_queries(20):
        as_alice.get(url("detail", VirtualMachine.objects.first()))


def test_no_page_breaks_the_content_security_policy(pool: Pool, as_alice: Client) -> None:
    vm = pool.ask()
    for address in (
        url("list"),
        url("new"),
        url("detail", vm),
        url("placement", vm),
        url("delete", vm),
        url("stop", vm),
        url("extend", vm),
        url("execute", vm),
        url("templates"),
        url("template", pool.template),
        url("edit-template", pool.template),
        url("grant", pool.template),
        url("revoke-grant", pool.grant),
        url("revoke-template", pool.template),
    ):
        answer = as_alice.get(address)
        assert answer.status_code == 200, address
        page = answer.content.decode()
        assert " style=" not in page, address
        assert "onclick=" not in page, address
        assert "<script>" not in page, address


def test_the_other_verbs_are_offered_by_state_and_act(
    pool: Pool, as_bob: Client, worker: Worker
) -> None:
    vm = pool.ask(name="build")
    worker.finish(vm.create_job)  # type: ignore[arg-type]
    page = text(as_bob.get(url("detail", vm)))
    assert all(word in page for word in ("Pause", "Restart", "Reset…", "Rename…"))
    assert not any(word in page for word in ("Resize…", "Clone…", "Copy a file"))

    as_bob.post(url("take-snapshot", vm), {"name": "clean"})
    worker.until(lambda: vm.snapshots.exists())
    snapshot = vm.snapshots.get()
    page = text(as_bob.get(url("detail", vm)))
    assert f'id="snapshot-{snapshot.pk}"' in page
    assert "with memory" in page
    dialog = reverse("vms:revert-snapshot", args=[vm.pk, snapshot.pk])
    assert "Afterwards the VM runs." in text(as_bob.get(dialog))

    as_bob.post(url("stop", vm))
    worker.until(lambda: reread(vm).state == "stopped")
    page = text(as_bob.get(url("detail", vm)))
    assert "Resize…" in page and "Pause" not in page
    refused = as_bob.post(url("resize", vm), {"cpus": 500, "memory_mib": 2048, "disk_gib": 64})
    assert (refused.status_code, "has no room" in text(refused)) == (409, True)
    cloned = as_bob.post(url("clone", vm), {"name": "copy"})
    copy = VirtualMachine.objects.get(name="copy")
    assert cloned["Location"] == url("detail", copy)
