"""The console in a real Chromium, served without the event stream: what works when it is away."""

from __future__ import annotations

import os
import re

import pytest

from accounts.models import User

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright keeps an event loop running
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_page(chromium, live_server):
    """Return a function that signs in and opens a path; no rule of the CSP may be broken."""
    contexts, broken = [], []

    def open_(path, user=None, **options):
        context = chromium.new_context(base_url=live_server.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on(
            "console",
            lambda said: broken.append(said.text) if "Content Security" in said.text else None,
        )
        if user:
            page.goto("/accounts/login/")
            page.fill("#id_login", user.username)
            page.fill("#id_password", "correct horse battery")
            page.click("button[type=submit]")
            page.wait_for_url(re.compile(r"/$"))
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert broken == []


def test_an_account_is_made_in_the_dialog(open_page, alice):
    page = open_page("/users/", alice)
    page.click("text=New account")
    page.wait_for_selector("dialog[open] >> text=New account")
    page.fill("#id_username", "alice")
    page.click("dialog button[type=submit]")
    page.wait_for_selector("dialog[open] #id_username.is-invalid")
    assert page.evaluate("document.activeElement.id") == "id_username"
    page.fill("#id_username", "dora")
    page.click("dialog button[type=submit]")
    page.wait_for_url("**/users/*-*/")
    assert page.inner_text("h1") == "dora"
    page.wait_for_selector("#toasts >> text=is there")


def test_a_finished_dialog_refreshes_the_page_behind_it(open_page, alice, bob):
    page = open_page(f"/users/{bob.pk}/", alice)
    page.click("text=Change roles")
    page.check("dialog >> text=Auditor")
    page.click("dialog button[type=submit]")
    page.wait_for_selector("#account .tag >> text=Auditor")
    page.wait_for_selector("dialog:not([open])", state="attached")
    page.wait_for_selector("#toasts >> text=are changed")


def test_escape_closes_the_dialog_and_gives_the_focus_back(open_page, alice, bob):
    page = open_page(f"/users/{bob.pk}/", alice)
    page.click("text=Deactivate")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    assert "Deactivate" in page.evaluate("document.activeElement.textContent")


def test_it_says_that_it_is_not_live_when_the_stream_is_away(open_page, alice):
    page = open_page("/users/", alice)
    page.wait_for_selector("#live[data-state=stale]")
    assert "asking every 10 s" in page.inner_text("#live")
    User.objects.create_user("erin")
    page.wait_for_selector("#rows >> text=erin", timeout=15_000)


def test_a_list_is_narrowed_while_typing_and_keeps_the_focus(open_page, alice, bob):
    page = open_page("/users/", alice)
    page.wait_for_selector("#rows >> text=bob")
    page.fill("#filter_q", "ali")
    page.wait_for_selector("#rows >> text=bob", state="detached")
    page.wait_for_url("**q=ali**")
    assert page.evaluate("document.activeElement.id") == "filter_q"


def test_colours_are_switched_without_a_reload_and_kept(open_page, alice):
    page = open_page("/account/", alice, color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("main >> text=Dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_colours_follow_the_system(open_page, alice):
    page = open_page("/accounts/login/", color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_everything_works_without_javascript(open_page, alice):
    page = open_page("/users/", alice, java_script_enabled=False)
    page.click("text=New account")
    page.fill("#id_username", "finn")
    page.click("text=Make account")
    assert page.inner_text("h1") == "finn"
    page.click("text=Change roles")
    page.check("text=Developer")
    page.click("main button[type=submit]")
    assert "Developer" in page.inner_text("#account")
    assert "reload to see" in page.inner_text("#live")
    page.click("summary")
    page.click("text=Dark")
    assert page.get_attribute("html", "data-bs-theme") == "dark"


@pytest.mark.parametrize("path", ["/", "/jobs/", "/tokens/", "/users/", "/roles/", "/audit/"])
def test_nothing_is_wider_than_a_telephone(open_page, alice, path):
    page = open_page(path, alice, viewport={"width": 390, "height": 800})
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    page.click("[aria-label=Menu]")
    page.click("#menu >> text=Jobs")
    page.wait_for_url("**/jobs/")
