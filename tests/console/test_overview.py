from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import CatalogSource, Image
from hosts.models import Health, Host, HostCapacity, HostHold, HostStatus
from jobs.models import Job
from vms.models import Lease, Template, VirtualMachine

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/"}


def pool(number, owner, template):
    """Make `number` hosts, each with a running and a pending VM, a job and a failed one."""
    for index in range(number):
        host = Host.objects.create(name=f"h{index}", url=f"http://h{index}.test")
        HostStatus.objects.create(
            host=host,
            health=Health.UNREACHABLE if index % 2 else Health.HEALTHY,
            architecture="arm64",
            reason="It does not answer.",
        )
        HostCapacity.objects.create(
            host=host, cpus_total=10, cpus_charged=4, memory_mib_total=2048, disk_gib_total=100
        )
        HostHold.objects.create(host=host, kind="cordon", reason="new disk")
        common = {
            "template": template,
            "requested_by": owner,
            "cpus": 1,
            "memory_mib": 1024,
            "disk_gib": 10,
            "lease_seconds": 60,
        }
        VirtualMachine.objects.create(name=f"pending-{index}", reason="The pool is full.", **common)
        vm = VirtualMachine.objects.create(
            name=f"running-{index}", state="running", host=host, problem="Did not stop.", **common
        )
        now = timezone.now()
        Lease.objects.create(vm=vm, started_at=now, ends_at=now + timezone.timedelta(minutes=5))
        Job.objects.create(
            kind="vm.start", subject=f"vm:{vm.pk}", step="x", actor=owner, state="running"
        )
        Job.objects.create(
            kind="vm.stop",
            subject=f"vm:{vm.pk}",
            step="x",
            actor=owner,
            state="failed",
            error="The host refused.",
        )


@pytest.fixture
def template(alice):
    source = CatalogSource.objects.create(name="c", connection="host=x")
    image = Image.objects.create(
        source=source, catalog_id="I", version="1", architecture="arm64", type="pvm"
    )
    template = Template.objects.create(
        name="t",
        cpus=1,
        memory_mib=1,
        disk_gib=1,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
        owner=alice,
    )
    template.images.add(image)
    return template


def test_it_tells_the_state_of_the_pool(as_, alice, template):
    pool(2, alice, template)
    page = as_(alice).get("/").content.decode()
    assert "<strong>1 of 2</strong>" in page
    assert "The pool is full." in page
    assert "Did not stop." in page
    assert "The host refused." in page
    assert "It does not answer." in page
    assert "running-1</a>" in page
    assert "CPUs: 8 of 20 used, 12 free" in page
    assert "workers for steps" in page  # nobody works in this test


def test_its_queries_do_not_grow_with_the_pool(as_, alice, template):
    client = as_(alice)
    pool(1, alice, template)
    client.get("/")
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get("/")
    Host.objects.all().delete()
    VirtualMachine.objects.all().delete()
    pool(30, alice, template)
    with CaptureQueriesContext(connection) as many:
        client.get("/")
    assert len(many) == len(few)
    assert len(many) <= 24


def test_a_developer_sees_only_their_own(as_, alice, bob, template):
    pool(1, alice, template)
    page = as_(bob).get("/").content.decode()
    assert "pending-0" not in page
    assert "running-0" not in page
    assert "Capacity" not in page
    assert 'href="/hosts/"' not in page


def test_htmx_gets_only_the_part_that_refreshes(as_, alice):
    page = as_(alice).get("/", headers=HTMX).content.decode()
    assert page.strip().startswith('<div id="overview"')
    assert "<html" not in page


def test_going_back_gets_the_whole_page(as_, alice):
    headers = HTMX | {"HX-History-Restore-Request": "true"}
    assert b"<html" in as_(alice).get("/", headers=headers).content


def test_a_stranger_is_sent_to_sign_in_and_back(client):
    assert client.get("/jobs/?state=done").url == (
        "/accounts/login/?next=%2Fjobs%2F%3Fstate%3Ddone"
    )
    answer = client.get("/", headers=HTMX | {"HX-Current-URL": "http://testserver/jobs/"})
    assert answer.status_code == 401
    assert answer["HX-Redirect"] == "/accounts/login/?next=%2Fjobs%2F"


def test_colours_are_kept_in_a_cookie(client):
    answer = client.post("/theme/", {"theme": "dark", "next": "/jobs/"})
    assert (answer.status_code, answer.url) == (303, "/jobs/")
    assert b'data-bs-theme="dark"' in client.get("/accounts/login/").content
    client.post("/theme/", {"theme": "system"})
    assert b"data-bs-theme=" not in client.get("/accounts/login/").content


@pytest.mark.parametrize("url", ["https://evil.test/", "//evil.test/", "javascript:x"])
def test_colours_lead_to_no_other_site(client, url):
    assert client.post("/theme/", {"theme": "dark", "next": url}).url == "/"


def test_no_page_needs_inline_script_or_style(as_, alice, template):
    pool(1, alice, template)
    client = as_(alice)
    for path in (
        "/",
        "/jobs/",
        "/tokens/",
        "/tokens/new/",
        "/users/",
        "/roles/",
        "/audit/",
        "/account/",
    ):
        answer = client.get(path)
        text = answer.content.decode()
        assert answer.status_code == 200, path
        assert " style=" not in text, path
        assert "<script>" not in text, path
        assert "script-src 'self'" in answer["Content-Security-Policy"]
