from __future__ import annotations

import stat

import pytest
from django.core.management import CommandError, call_command

from accounts.actors import Actor
from accounts.audit import seal_audit
from accounts.models import AuditEvent, User
from accounts.tokens import create_token, find_live
from hosts import enrolment
from hosts.models import Host, HostCapacity, HostStatus
from vms.models import Grant, Template

pytestmark = pytest.mark.django_db


def test_create_token_prints_the_token_alone(bob, capsys):
    call_command("create_token", "bob", name="ci", scopes="vms,read", expires_in_days=2)
    printed = capsys.readouterr().out
    token = find_live(printed.strip())
    assert (token.user, token.scopes, token.name) == (bob, ["read", "vms"], "ci")
    assert printed.count("\n") == 1
    assert token.expires_at


def test_create_token_narrows_to_templates(bob, capsys):
    template = Template.objects.create(
        name="Xcode",
        cpus=1,
        memory_mib=1,
        disk_gib=1,
        default_lease_seconds=1,
        maximum_lease_seconds=1,
    )
    call_command("create_token", "bob", name="ci", scopes="vms", template=["xcode"])
    assert find_live(capsys.readouterr().out.strip()).templates == [str(template.pk)]


@pytest.mark.parametrize(
    ("user", "options", "said"),
    [
        ("nobody", {"scopes": "vms"}, "no account 'nobody'"),
        ("bob", {"scopes": "everything"}, "no scope everything"),
        ("bob", {"scopes": "vms", "template": ["gone"]}, "no template 'gone'"),
        ("bob", {"scopes": "vms", "expires_in_days": -1}, "lies in the past"),
    ],
)
def test_create_token_says_what_is_wrong(bob, user, options, said):
    with pytest.raises(CommandError, match=said):
        call_command("create_token", user, name="ci", **options)


def test_verify_audit_tells_whole_from_broken(bob, capsys):
    for name in ("a", "b", "c"):
        create_token(Actor(bob), name=name, scopes=["vms"])
    seal_audit()
    call_command("verify_audit")
    out = capsys.readouterr().out
    assert "events: 3" in out
    assert "head: " in out
    AuditEvent.objects.filter(sequence=2).update(subject_name="other")
    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit")
    assert ended.value.code == 1
    assert "broken at number 2" in capsys.readouterr().err


def test_bootstrap_makes_one_administrator(db, settings, tmp_path, capsys):
    settings.VAR_DIR = tmp_path
    call_command("bootstrap")
    password = (tmp_path / "admin-password").read_text().strip()
    assert capsys.readouterr().out == f"password: {password}\n"
    assert stat.S_IMODE((tmp_path / "admin-password").stat().st_mode) == 0o600
    admin = User.objects.get(username="admin")
    assert admin.check_password(password)
    call_command("bootstrap")
    assert capsys.readouterr().out == ""
    assert User.objects.count() == 1


def test_bootstrap_makes_the_demo_once(db, settings, tmp_path, monkeypatch):
    settings.VAR_DIR = tmp_path
    enrolled = []

    def enrol(actor, *, name, url, username, password):
        enrolled.append((name, url, username, password))
        host = Host.objects.create(name=name, url=url)
        HostStatus.objects.create(host=host, architecture="arm64")
        HostCapacity.objects.create(host=host)

    monkeypatch.setattr(enrolment, "enrol", enrol)
    for _ in range(2):
        call_command("bootstrap", demo=True, simulator_url="http://127.0.0.1:9/")
    assert [name for name, *_ in enrolled] == ["mac-1", "mac-2", "mac-3"]
    assert enrolled[0] == ("mac-1", "http://127.0.0.1:9/h/1", "root@localhost", "simulated")
    assert sorted(Template.objects.values_list("name", flat=True)) == ["macos-xcode", "ubuntu-ci"]
    assert Grant.objects.filter(role__isnull=False).count() == 4


def test_bootstrap_wants_to_know_where_the_demo_is(db):
    with pytest.raises(CommandError, match="--simulator-url"):
        call_command("bootstrap", demo=True)
