"""The audit trail: found, handed out, and whole."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.actors import SYSTEM, Actor
from accounts.audit import audit, check_if_due, exporting, prune, seal_audit, verify
from accounts.audit.reading import search
from accounts.models import AuditEvent, AuditMark
from orchestrator.console.retention import retain

pytestmark = [pytest.mark.django_db, pytest.mark.stores]


@pytest.fixture
def trail(alice, bob):
    """Four events of two people; one was refused."""
    at_work = Actor(alice, address="10.0.0.7", request_id="req-1")
    audit(at_work, "host.changed", "host:1", "mac-1", data={"before": {"tags": ["a"]}})
    audit(at_work, "user.created", "user:2", "Jürgen", data={"mail": 'the "other" Größe'})
    audit(Actor(bob, address="10.0.0.8"), "host.remove", "host:1", "mac-1", refused=True)
    audit(SYSTEM, "vm.lease_ended", "vm:3", "=cmd", data={})
    seal_audit()


def actions(rows):
    return sorted(rows.values_list("action", flat=True))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("alice", ["host.changed", "user.created"]),
        ("ALICE mac-1", ["host.changed"]),
        ("größe", ["user.created"]),
        ("Größe", ["user.created"]),
        ('"other"', ["user.created"]),
        ("10.0.0", ["host.changed", "host.remove", "user.created"]),
        ("req-1 tags", ["host.changed"]),
        ("nothing-like-it", []),
        ("100%", []),
    ],
)
def test_every_word_is_found_wherever_it_stands(trail, text, found):
    assert actions(search(AuditEvent.objects.all(), text)) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 4),
        ("q=mac-1&outcome=refused", 1),
        ("actor=ALICE", 2),
        ("action=host", 2),
        ("subject=host:1", 2),
        ("subject=mac", 2),
        ("address=10.0.0.7&action=user.created", 1),
        ("request_id=req-1", 2),
        (f"since={timezone.now() + timedelta(hours=1):%Y-%m-%dT%H:%M}", 0),
        (f"until={timezone.now() + timedelta(hours=1):%Y-%m-%dT%H:%M}", 4),
    ],
)
def test_page_export_and_api_take_the_same_filters(as_, audrey, trail, query, found):
    client = as_(audrey)
    page = client.get(f"/audit/?{query}").content.decode()
    assert page.count('<tr id="audit-') == found
    lines = client.get(f"/audit/export/?as=jsonl&{query}").getvalue()
    assert len(lines.splitlines()) == found
    # Each download is an event itself.
    rows = client.get(f"/api/v2/audit/?{query}").json()["results"]
    assert len([row for row in rows if row["action"] != "audit.exported"]) == found
    answer = client.get(f"/api/v2/audit/export/?{query}")
    exported = [json.loads(line) for line in answer.getvalue().splitlines()]
    assert [row["id"] for row in exported if row["action"] != "audit.exported"] == [
        row["id"] for row in reversed(rows) if row["action"] != "audit.exported"
    ]


def test_a_sheet_gets_every_column_and_no_formula(as_, audrey, trail):
    answer = as_(audrey).get("/audit/export/?as=csv")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))
    assert tuple(rows[0]) == exporting.COLUMNS
    assert [row["sequence"] for row in rows] == ["1", "2", "3", "4"]
    assert json.loads(rows[1]["data"]) == {"mail": 'the "other" Größe'}
    assert rows[3]["subject_name"] == "'=cmd"
    taken = AuditEvent.objects.get(action="audit.exported")
    assert (taken.actor_name, taken.address) == ("audrey", "127.0.0.1")
    assert taken.data == {"as": "csv", "filters": {}}


def test_who_may_not_see_it_gets_no_copy_and_that_is_audited(as_, bob, trail):
    client = as_(bob)
    assert client.get("/audit/export/?as=csv").status_code == 403
    assert client.get("/api/v2/audit/export/").status_code == 403
    refused = AuditEvent.objects.filter(outcome="refused", actor_name="bob", address="127.0.0.1")
    assert actions(refused) == ["audit.export.get", "page.accounts:audit-export"]


@pytest.mark.parametrize("query", ["as=xml", "since=yesterday", "outcome=perhaps"])
def test_a_bad_wish_is_refused_with_a_sentence(as_, audrey, query):
    client = as_(audrey)
    assert client.get(f"/audit/export/?{query}").status_code == 400
    assert client.get(f"/api/v2/audit/export/?{query}").status_code == 400
    assert not AuditEvent.objects.filter(action="audit.exported").exists()


def test_a_long_export_needs_little_memory_and_few_rows_at_once(audrey, monkeypatch):
    padding = {"text": "x" * 2000}
    AuditEvent.objects.bulk_create(
        (
            AuditEvent(action="vm.created", actor_name="alice", subject="vm:1", data=padding)
            for _ in range(5000)
        ),
        batch_size=500,
    )
    answer = exporting.export(Actor(audrey), AuditEvent.objects.all(), "csv", filters={})
    tracemalloc.start()
    try:
        size = 0
        for part in answer.streaming_content:
            size += len(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 10_000_000
    assert peak < size / 2


def test_an_export_has_an_end_though_the_trail_grows(audrey, trail):
    answer = exporting.export(Actor(audrey), AuditEvent.objects.all(), "jsonl", filters={})
    audit(SYSTEM, "vm.lease_ended", "vm:9")
    assert len(answer.getvalue().splitlines()) == 4


def aged(*days):
    """Give the events of the trail, in order, these ages before they are sealed."""
    for pk, ago in zip(AuditEvent.objects.order_by("pk").values_list("pk"), days, strict=True):
        moment = timezone.now() - timedelta(days=ago)
        AuditEvent.objects.filter(pk=pk[0]).update(created_at=moment)


@pytest.fixture
def old_trail(alice):
    """Five sealed events; the first three are old."""
    for number in range(5):
        audit(Actor(alice), "host.changed", f"host:{number}")
    aged(40, 39, 38, 3, 0)
    seal_audit()


def numbers():
    return list(AuditEvent.objects.order_by("sequence").values_list("sequence", flat=True))


def test_retention_is_off_unless_set(old_trail, settings):
    settings.AUDIT_RETENTION_DAYS = 0
    retain()
    assert numbers() == [1, 2, 3, 4, 5]


def test_the_chain_holds_after_retention(old_trail, settings):
    settings.AUDIT_RETENTION_DAYS = 30
    kept = AuditEvent.objects.get(sequence=3).digest
    retain()
    seal_audit()
    assert numbers() == [4, 5, 6]
    told = AuditEvent.objects.get(sequence=6)
    assert (told.action, told.data["from"], told.data["up_to"]) == ("audit.pruned", 1, 3)
    assert told.data["digest"] == kept
    verdict = verify()
    assert (verdict.broken_at, verdict.checked, verdict.pruned) == (None, 3, 3)
    retain()  # nothing is old any more, and nothing is told again
    assert (seal_audit(), numbers()) == (0, [4, 5, 6])


def test_the_chain_holds_when_retention_dies_before_it_deletes(old_trail):
    assert prune(timezone.now() - timedelta(days=30)) == 3
    assert AuditEvent.objects.filter(sequence__lte=3).count() == 3
    seal_audit()
    assert verify().broken_at is None
    retain()  # the next run deletes what the anchor has let go, whatever is set meanwhile
    assert numbers() == [4, 5, 6]
    assert verify().broken_at is None


def test_everything_may_be_old(old_trail, settings):
    assert prune(timezone.now() + timedelta(days=1)) == 5
    retain()
    seal_audit()
    assert numbers() == [6]
    assert verify().checked == 1


def test_an_old_moment_behind_a_new_one_waits_for_it(alice):
    for number in range(3):
        audit(Actor(alice), "host.changed", f"host:{number}")
    aged(40, 1, 40)
    seal_audit()
    assert prune(timezone.now() - timedelta(days=30)) == 1
    retain()
    seal_audit()
    assert numbers() == [2, 3, 4]
    assert verify().broken_at is None


@pytest.mark.parametrize("pruned", [False, True])
def test_whoever_cuts_the_beginning_off_is_noticed(old_trail, pruned):
    if pruned:
        prune(timezone.now() - timedelta(days=30))
        retain()
        seal_audit()
    first = numbers()[0]
    cut = AuditEvent.objects.get(sequence=first)
    AuditEvent.objects.filter(sequence=first).delete()
    assert verify().broken_at == first
    AuditMark.objects.update_or_create(
        name="pruned", defaults={"sequence": first, "digest": cut.digest}
    )
    assert "not by retention" in verify().reason


def test_changed_and_added_events_are_noticed(old_trail):
    AuditEvent.objects.filter(sequence=2).update(address="10.0.0.1")
    assert (verify().broken_at, verify().reason) == (2, "this event was changed")
    AuditEvent.objects.filter(sequence=2).update(address="")
    last = AuditEvent.objects.get(sequence=5)
    last.pk, last.sequence = None, 6
    last.save(force_insert=True)
    assert verify().reason == "events were added at the end"


def test_the_page_shows_what_the_check_found(as_, audrey, old_trail):
    client = as_(audrey)
    assert "is checked within a minute" in client.get("/audit/").content.decode()
    assert check_if_due().broken_at is None
    assert check_if_due() is None
    page = client.get("/audit/").content.decode()
    assert "Chain intact up to number <strong>5</strong>" in page
    AuditEvent.objects.filter(sequence=4).update(subject_name="other")
    AuditMark.objects.update(at=timezone.now() - timedelta(hours=2))
    assert check_if_due().broken_at == 4
    page = client.get("/audit/").content.decode()
    assert "The chain is broken at number 4: this event was changed." in page


def test_the_page_tells_of_retention(as_, audrey, old_trail):
    prune(timezone.now() - timedelta(days=30))
    assert "Numbers up to 3 were removed" in as_(audrey).get("/audit/").content.decode()
