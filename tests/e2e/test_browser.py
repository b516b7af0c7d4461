"""A day in a real Chromium, by clicking, against the product's real processes.

The administrator makes everything that Bob needs, Bob works with a VM, and loses it again. Two
people mean two browsers, and neither has to reload a page to see what the other did.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support.product import until
from tests.support.simulation import simulated_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Page

    from tests.support.product import Product
    from tests.support.simulation import Simulation

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
BOBS_PASSWORD = "correct horse battery"
# Five times what is promised: a page or a change is shown within 2 s, and a VM runs with its
# address 5 s after its host booted it.
LIVE_MS, VM_MS = 10_000, 30_000


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """One host whose VMs boot so slowly that a page is open before they run."""
    with simulated_hosts(1, "--boot-seconds", "1", "--clone-seconds", "0.5") as running:
        yield running


@pytest.fixture
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Person:
    """Somebody at a browser of their own, who notices everything that goes wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.wrong.append(said.text)

    def was_refused(self, status: int) -> None:
        """Forget what Chromium said about an answer that was meant to be a refusal."""
        assert len(self.wrong) == 1 and f"status of {status}" in self.wrong.pop()

    def sign_in(self, username: str, password: str) -> None:
        self.page.goto("/accounts/login/")
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.press("Sign in")
        self.is_on("Overview")

    def go(self, place: str) -> None:
        """Go to a place of the navigation."""
        self.page.get_by_role("navigation", name="Main").get_by_role("link", name=place).click()

    def press(self, name: str, within: Locator | None = None) -> None:
        """Press a button, or a link that looks like one."""
        place = within or self.page.locator("main")
        button = place.get_by_role("button", name=name, exact=True)
        button.or_(place.get_by_role("link", name=name, exact=True)).click()

    def fill(self, values: dict[str, str], within: Locator | None = None) -> None:
        """Fill in fields by their labels; `select_option` for those that are lists."""
        for label, value in values.items():
            field = (within or self.page.locator("main")).get_by_label(label, exact=True)
            if field.evaluate("field => field.tagName") == "SELECT":
                field.select_option(label=value)
            else:
                field.fill(value)

    @contextmanager
    def dialog(self, button: str, within: Locator | None = None) -> Iterator[Locator]:
        """Open the dialog of a button; it must have closed by itself at the end of the block."""
        self.press(button, within)
        modal = self.page.get_by_role("dialog")
        expect(modal).to_be_visible()
        yield modal
        expect(modal).to_be_hidden()

    def is_on(self, heading: str) -> None:
        expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)

    def follows(self) -> None:
        """Mark the page that is open, as soon as it hears of changes."""
        expect(self.page.locator("#live")).to_have_attribute("data-state", "live")
        self.page.evaluate("window.opened = 'once'")

    def hears_of_a_change(self, noun: str = "job") -> None:
        """Let the open page fetch itself anew, as after any change, and show what came."""
        self.page.evaluate(
            """noun => new Promise(done => {
                document.addEventListener("htmx:after:settle", () => done(), {once: true});
                document.body.dispatchEvent(new CustomEvent(`live:${noun}`));
            })""",
            noun,
        )

    def has_not_reloaded(self) -> None:
        assert self.page.evaluate("window.opened") == "once"


@pytest.fixture
def someone(chromium: Browser, product: Product) -> Iterator[Any]:
    """Return a function that gives a person a browser. At the end nothing was wrong in any."""
    expect.set_options(timeout=LIVE_MS)
    people: list[Person] = []

    def arrive(username: str, password: str) -> Person:
        context = chromium.new_context(
            base_url=product.url, viewport={"width": 1440, "height": 900}
        )
        context.set_default_timeout(VM_MS)
        person = Person(context.new_page())
        people.append(person)
        person.sign_in(username, password)
        return person

    yield arrive
    expect.set_options(timeout=5_000)  # Playwright's own
    for person in people:
        person.page.context.close()
    assert [person.wrong for person in people] == [[] for _ in people]


def enrol(admin: Person, simulation: Simulation) -> None:
    """Enrol the host; the first try has a wrong password and says so."""
    admin.go("Hosts")
    admin.press("Enrol a host", admin.page.locator(".page-actions"))
    admin.fill(
        {
            "Name": "mac-1",
            "Address": simulation.host_url(1),
            "User name": "root@localhost",
            "Password": "wrong",
        }
    )
    admin.press("Try and enrol")
    refusal = admin.page.locator("#enrol-form .invalid-feedback")
    expect(refusal).to_contain_text("does not accept")
    admin.was_refused(400)
    admin.fill({"Password": "simulated"})
    admin.press("Try and enrol")
    admin.is_on("mac-1")
    expect(admin.page.locator("#host .state").first).to_have_text("healthy")


def make_template(admin: Person) -> None:
    """Make a catalog source, its image, and a template of it."""
    admin.go("Images")
    with admin.dialog("Add a source") as modal:
        admin.fill({"Name": "catalog", "Connection": "host=u:secret@http://127.0.0.1:9"}, modal)
        admin.press("Add", modal)
    expect(admin.page.locator("#images")).to_contain_text("catalog")
    expect(admin.page.locator("#images")).not_to_contain_text("secret")
    with admin.dialog("Add an image") as modal:
        admin.fill(
            {
                "Source": "catalog",
                "Catalog id": "ubuntu",
                "Version": "24.04",
            },
            modal,
        )
        admin.press("Add", modal)
    expect(admin.page.get_by_role("link", name="ubuntu:24.04")).to_be_visible()
    admin.go("Templates")
    admin.press("New template", admin.page.locator(".page-actions"))
    admin.fill({"Name": "ubuntu-ci", "System": "Linux", "CPUs": "2", "Memory (MiB)": "2048"})
    admin.page.get_by_label("ubuntu:24.04").check()
    admin.press("Make the template")
    admin.is_on("ubuntu-ci")


def make_bob(admin: Person) -> None:
    admin.go("Users")
    with admin.dialog("New account") as modal:
        admin.fill({"Name": "bob", "Password": BOBS_PASSWORD}, modal)
        modal.get_by_label("Developer").check()
        admin.press("Make account", modal)
        admin.is_on("bob")


def open_template(person: Person) -> None:
    person.go("Templates")
    person.page.locator("main").get_by_role("link", name="ubuntu-ci").click()
    person.is_on("ubuntu-ci")


def ask_for_vm(person: Person, name: str) -> None:
    person.go("VMs")
    person.press("New VM", person.page.locator(".page-actions"))
    person.fill({"Name": name})
    person.press("Ask for the VM")
    person.is_on(name)
    person.follows()


def expect_running(person: Person) -> None:
    """Watch the open page of a VM until it runs and has its address."""
    expect(person.page.locator("#vm-state .state")).to_have_text("running", timeout=VM_MS)
    address = person.page.locator("#ip-address")
    expect(address).to_have_text(re.compile(r"^\d+\.\d+\.\d+\.\d+$"), timeout=VM_MS)
    person.has_not_reloaded()


def run_command(person: Person) -> None:
    person.fill({"Command": "echo it works"})
    person.hears_of_a_change()  # does not take away what was typed
    person.press("Run")
    run = person.page.locator("[id^=run-]")
    expect(run).to_contain_text("exit code 0")
    expect(run.locator(".log")).to_have_text("it works\n")
    person.has_not_reloaded()


def sees_only_their_own(bob: Person, foreign: str) -> None:
    """Bob finds neither the administrator's VM nor the places of administrators."""
    places = bob.page.get_by_role("navigation", name="Main").get_by_role("link")
    expect(places).to_have_text(
        ["Overview", "VMs", "Queue", "Templates", "Jobs", "Tokens", "Webhooks", "Requests"]
    )
    bob.go("VMs")
    expect(bob.page.locator("#rows tbody tr")).to_have_count(1)
    bob.go("Jobs")
    expect(bob.page.locator("#rows tbody tr")).to_have_count(2)
    expect(bob.page.locator("#rows")).not_to_contain_text("for-admin")
    for path in (foreign, "/hosts/", "/users/", "/audit/"):
        answer = bob.page.goto(path)
        assert answer is not None and answer.status in (403, 404), path
        bob.was_refused(answer.status)


def revoke(admin: Person) -> None:
    """Take Bob's grant away, with the VM that rests on it."""
    row = admin.page.locator("#grants tr", has_text="bob")
    with admin.dialog("Revoke", row) as modal:
        hits = modal.get_by_role("table").locator("tbody tr")
        expect(hits).to_have_count(1)
        expect(hits).to_contain_text("for-bob")
        modal.get_by_label("Delete them").check()
        admin.press("Revoke", modal)
    expect(row).to_contain_text("revoked")


def stop_what_is_ticked(admin: Person) -> None:
    """Stop VMs that are ticked in the list, after a look at what would be done."""
    admin.go("VMs")
    admin.follows()
    box = admin.page.get_by_label("Select for-admin")
    box.check()
    admin.page.get_by_label("What to do with them").select_option(label="Stop")
    admin.hears_of_a_change("vm")  # does not take away what was ticked and chosen
    expect(box).to_be_checked()
    admin.press("Continue…")
    modal = admin.page.get_by_role("dialog")
    expect(modal).to_contain_text("Stop: 1 VM")
    admin.press("Stop: 1 VM", modal)
    admin.is_on("batch")
    expect(admin.page.locator("#job")).to_contain_text("1 done", timeout=VM_MS)


def test_a_vm_comes_and_goes_before_the_eyes_of_two_people(
    product: Product, simulation: Simulation, someone: Any
) -> None:
    password = (product.folder / "admin-password").read_text().strip()
    admin = someone("admin", password)
    enrol(admin, simulation)
    make_template(admin)
    make_bob(admin)

    open_template(admin)
    admin.follows()
    grants = admin.page.locator("section", has=admin.page.get_by_role("heading", name="Grants"))
    with admin.dialog("Grant", grants) as modal:
        admin.fill({"User": "bob", "Longest lease": "4h"}, modal)
        admin.press("Grant", modal)
    expect(grants.locator("tr", has_text="bob")).to_contain_text("leases of 4 h")
    admin.has_not_reloaded()

    ask_for_vm(admin, "for-admin")
    expect_running(admin)
    foreign = admin.page.url

    bob = someone("bob", BOBS_PASSWORD)
    ask_for_vm(bob, "for-bob")
    expect_running(bob)
    bobs = bob.page.url
    run_command(bob)
    sees_only_their_own(bob, foreign)

    bob.page.goto(bobs)
    bob.follows()
    open_template(admin)
    revoke(admin)
    expect(bob.page.locator("#vm-state .state")).to_have_text("deleted", timeout=VM_MS)
    bob.has_not_reloaded()
    left = until(lambda: len(names := simulation.all_vm_names()) == 1 and names, 30, "one VM left")
    assert left[0].startswith("for-admin")
    stop_what_is_ticked(admin)
    bob.go("VMs")
    bob.press("New VM", bob.page.locator(".page-actions"))
    expect(bob.page.locator("main")).to_contain_text("No template was granted to you")
