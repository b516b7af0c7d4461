from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.template import engines
from django.utils import timezone

from accounts.revocation import Hit
from hosts.models import Health, HostHold
from jobs.models import Job
from orchestrator.web.templatetags import console
from vms.states import State


def shown(text, **context):
    return engines["django"].from_string(text).render(context)


@pytest.mark.parametrize(
    "word", [*State.values, *Health.values, *HostHold.Kind.values, *Job.State.values]
)
def test_every_state_has_its_look(word):
    assert word in console.LOOKS


def test_every_icon_is_in_the_sprite(settings):
    sprite = (settings.BASE_DIR / "static" / "icons.svg").read_text()
    used = {icon for _, icon in console.LOOKS.values()}
    used |= {place.icon for _, places in console.NAVIGATION for place in places}
    assert [name for name in used if f'id="{name}"' not in sprite] == []


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ 512|gib }}", "512 MiB"),
        ("{{ 8192|gib }}", "8 GiB"),
        ("{{ 1536|gib }}", "1.5 GiB"),
        ("{{ 2097152|gib }}", "2 TiB"),
        ("{{ 64|disk }}", "64 GiB"),
        ("{{ 1536|disk }}", "1.5 TiB"),
        ("{{ 5400|duration }}", "1 h 30 min"),
        ("{{ 0|duration }}", "0 s"),
        ("{{ 93784|duration }}", "1 d 2 h"),
    ],
)
def test_sizes_and_durations(text, result):
    assert shown(text) == result


@pytest.mark.parametrize(
    ("seconds", "result"),
    [(-5, "5 s ago"), (-130, "2 min ago"), (-7300, "2 h ago"), (190_000, "in 2 d")],
)
def test_times(seconds, result):
    moment = timezone.now() + timedelta(seconds=seconds)
    assert f">{result}</time>" in shown("{% ago moment %}", moment=moment)


def test_no_time_is_never():
    assert "never" in shown("{% ago moment %}", moment=None)


def test_a_bar_never_exceeds_its_width_and_has_words():
    html = shown('{% capacity "CPUs" 10 9 9 9 %}')
    assert 'width="90.0"' in html
    assert 'width="10.0"' in html
    assert "CPUs: 27 of 10 used, 0 free" in html
    assert "over" in html


def test_an_unknown_state_says_what_it_was():
    assert "unknown, was running" in shown('{% state "running" unknown=True %}')


def test_a_subject_is_a_link_and_is_escaped():
    assert shown('{% subject "vm:7" name %}', name="<x>") == '<a href="/vms/7/">&lt;x&gt;</a>'
    assert shown('{% subject "catalog:7" "c" %}') == "<span>c</span>"


def test_what_a_revocation_hits_is_counted_by_kind_and_says_what_becomes_of_it():
    vm, task = (Hit(kind, uuid4(), f"a {kind}", "running", queued=False) for kind in ("vm", "task"))
    assert shown("{{ hits|counted }}", hits=[vm, vm, task]) == "2 VMs and 1 task"
    page = shown('{% include "partials/hits.html" %}', hits=[vm, task])
    assert "1 VM and 1 task rest on it" in page
    assert page.index("as chosen") < page.index("no further step begins")
    assert "1 task rests on it" in shown('{% include "partials/hits.html" %}', hits=[task])
    assert "Nothing rests on it" in shown('{% include "partials/hits.html" %}', hits=[])
