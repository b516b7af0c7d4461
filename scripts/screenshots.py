"""Take the pictures of the documentation: `python -m scripts.screenshots [--pages FOLDER]`.

Runs the product with its demo pool in a folder of its own, lets a small team ask for VMs, and
writes the pictures in docs/images. `--pages` also writes every page of the console, wide and
narrow, light and dark, to look at after a change of templates or styles; a page that is wider than
its window is an error. Needs Chromium (`CHROMIUM`, default /usr/bin/chromium) and the group `dev`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "overview.png"
PREVIEW = PICTURE.with_name("deployment-preview.png")
ENVIRONMENT = PICTURE.with_name("environment.png")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# The API waits at most 60 s with us.
CALL_SECONDS = 70
HOUR = 3600

# Who asks for which VMs: name, template, lease in seconds. All have room.
WANTED = {
    "ci": [
        ("nightly-ios", "macos-xcode", 8 * HOUR),
        ("nightly-macos", "macos-xcode", 8 * HOUR),
        ("release-ios", "macos-xcode", 3 * HOUR),
        ("unit-tests", "ubuntu-ci", HOUR // 2),
    ],
    "bob": [("bob-debug", "macos-xcode", 30 * HOUR), ("bob-linux", "ubuntu-ci", 2 * HOUR)],
    "admin": [("signing", "macos-xcode", 48 * HOUR)],
}
# The first is being made while the picture is taken; no host has room for the second.
LAST: list[tuple[str, dict[str, Any]]] = [
    ("bob", {"name": "load-test", "template": "ubuntu-ci"}),
    ("ci", {"name": "store-upload", "template": "macos-xcode", "cpus": 8}),
]


class Demo:
    """The running demo: its address, its administrator, and the API as several accounts."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.password = (folder / "admin-password").read_text().strip()
        self.clients = {"admin": self.client("admin", "admin", "laptop")}

    def client(self, username: str, scopes: str, name: str) -> httpx.Client:
        """Return a client with a new token of the account."""
        words = ["create_token", username, "--name", name, "--scopes", scopes]
        token = subprocess.check_output(
            [sys.executable, "manage.py", *words], cwd=ROOT, env=environment(self.folder), text=True
        ).strip()
        return httpx.Client(
            base_url=f"{self.url}/api/v2",
            headers={"Authorization": f"Bearer {token}"},
            timeout=CALL_SECONDS,
        )

    def get(self, path: str) -> Any:
        """Return what the administrator reads."""
        return self.clients["admin"].get(path).raise_for_status().json()

    def post(self, who: str, path: str, body: dict[str, Any], wait: int = 0) -> Any:
        """Ask for something as `who`, and wait up to `wait` seconds until it is done."""
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        return self.clients[who].post(path, json=body, headers=headers).raise_for_status().json()

    def sign_in(self, browser: Browser) -> Any:
        """Sign the administrator in and return the browser's cookies."""
        with browser.new_context(base_url=self.url) as context:
            page = context.new_page()
            page.goto("/accounts/login/")
            page.get_by_label("Name").fill("admin")
            page.get_by_label("Password").fill(self.password)
            page.get_by_role("button", name="Sign in", exact=True).click()
            expect(page.get_by_role("heading", name="Overview")).to_be_visible()
            return context.storage_state()


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a demo in `folder`, untouched by this shell's settings."""
    foreign = {"DATABASE_URL", "REDIS_URL", "BIND", "DEMO", "PUBLIC_URL", "PORT"}
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    # Its webhook goes to a dead port of this machine, never to another.
    return {**kept, "VAR_DIR": str(folder), "PORT": "0", "WEBHOOK_ALLOW_LOOPBACK": "true"}


@contextmanager
def running_demo() -> Iterator[Demo]:
    """Run the product with its demo pool on a free port until the block ends."""
    with (
        tempfile.TemporaryDirectory(prefix="screenshots-") as folder,
        subprocess.Popen(
            [sys.executable, "manage.py", "run", "--stop-with-parent"],
            cwd=ROOT,
            env=environment(Path(folder)),
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("ready: "):
                    yield Demo(Path(folder), line.split()[1])
                    return
            raise SystemExit("The product did not start.")
        finally:
            process.terminate()
            process.wait(30)


def populate(demo: Demo) -> None:
    """Make a small team and let it ask for VMs; return when they run."""
    demo.post("admin", "/users/", {"username": "bob", "roles": ["Developer"]})
    demo.post("admin", "/service-accounts/", {"username": "ci", "roles": ["Developer"]})
    demo.clients["ci"] = demo.client("ci", "vms", "nightly build")
    demo.clients["bob"] = demo.client("bob", "vms,read", "laptop")
    _someone_elses_vm(demo)
    requests = [(who, *wanted) for who, list_ in WANTED.items() for wanted in list_]

    def ask(request: tuple[str, str, str, int]) -> None:
        who, name, template, lease = request
        body = {"template": template, "name": name, "lease_seconds": lease}
        demo.post(who, "/vms/", body, wait=60)

    with ThreadPoolExecutor(len(requests)) as together:
        list(together.map(ask, requests))


def _someone_elses_vm(demo: Demo) -> None:
    """Put a VM that is not ours on the first simulated host."""
    port = (demo.folder / "simulator-port").read_text().strip()
    vm = {"name": "old-jenkins", "cpus": 1, "memory": 4096, "state": "running"}
    httpx.patch(f"http://127.0.0.1:{port}/control/h/1", json={"vms": [vm]}).raise_for_status()
    demo.post("admin", f"/hosts/{_id_of(demo, '/hosts/', 'mac-1')}/inventory/", {}, wait=60)


def _id_of(demo: Demo, path: str, name: str = "") -> str:
    rows = demo.get(path)["results"]
    return str(next(row["id"] for row in rows if not name or row["name"] == name))


DATABASE = {
    "application": "Database",
    "version": "16.2",
    "description": "The database of the shop.",
    "deployables": [
        {
            "name": "schema",
            "type": "script",
            "tags": ["db"],
            "properties": {
                "script": "psql --file /opt/schema.sql",
                "undo": "psql --file /opt/undo.sql",
            },
        },
    ],
}
SHOP = {
    "application": "Shop",
    "version": "2.4.0",
    "description": "Front end and workers of the shop.",
    "orchestrators": ["sequential-by-deployment-group", "parallel-by-container"],
    "policy": {
        "gate": {"probe": "http", "port": 8080, "path": "/health", "minimum_healthy_seconds": 30},
        "on_failure": {"tolerated": "25%", "siblings": "finish", "then": "hold"},
        "approvals": [{"name": "Release manager", "at": "start", "role": "Operator"}],
    },
    "deployables": [
        {
            "name": "settings",
            "type": "configuration",
            "tags": ["web"],
            "properties": {
                "path": "/etc/shop.env",
                "values": {"PORT": "{{port}}", "PASSWORD": "{{password}}"},
            },
        },
        {
            "name": "migrate",
            "type": "script",
            "tags": ["web"],
            "properties": {
                "script": "shop migrate --on {{container.name}}",
                "undo": "shop migrate --back",
            },
        },
        {
            "name": "shop",
            "type": "service",
            "tags": ["web"],
            "properties": {"service": "shop"},
        },
        {
            "name": "report",
            "type": "script",
            "tags": ["db"],
            "properties": {"script": "shop report"},
        },
    ],
}
MEMBERS = [
    {"vm": "unit-tests", "group": 1, "tags": ["web"], "labels": {"site": "a"}},
    {"vm": "nightly-ios", "group": 2, "tags": ["web"], "labels": {"site": "a"}},
    {"vm": "nightly-macos", "group": 2, "tags": ["web"], "labels": {"site": "b"}},
    {"vm": "signing", "group": 3, "tags": ["db"]},
    {"tag": "extra", "tags": ["web"]},
]


def deployments_of(demo: Demo) -> dict[str, str]:
    """Make packages, an environment and a dictionary; return the paths of their pages."""
    values = {"name": "Staging values", "entries": {"port": "8080"}}
    dictionary = demo.post("admin", "/dictionaries/", values | {"secrets": {"password": "secret"}})
    environment = demo.post(
        "admin",
        "/environments/",
        {
            "name": "Staging",
            "description": "What is tried before it goes live.",
            "dictionaries": ["Staging values"],
            "policy": {"max_unavailable": 2},
            "members": MEMBERS,
        },
    )
    demo.post("admin", "/packages/", DATABASE)
    package = demo.post("admin", "/packages/", SHOP)
    ids = [
        {"application": one["application"], "version": one["version"]} for one in (DATABASE, SHOP)
    ]
    suite = {"application": "Shop suite", "version": "2.4.0", "packages": ids}
    whole = demo.post("admin", "/packages/", suite)
    chosen = f"environment={environment['id']}&package="
    return {
        "packages": "/packages/",
        "package": f"/packages/{package['id']}/",
        "package-composite": f"/packages/{whole['id']}/",
        "package-import": "/packages/import/",
        "environments": "/environments/",
        "environment": f"/environments/{environment['id']}/",
        "environment-member": f"/environments/{environment['id']}/members/new/",
        "dictionaries": "/dictionaries/",
        "dictionary": f"/dictionaries/{dictionary['id']}/",
        "deploy": "/deployments/new/",
        "deploy-preview": f"/deployments/new/?{chosen}{package['id']}",
        "deploy-suite": f"/deployments/new/?{chosen}{whole['id']}",
    }


def _web(version: str, script: str, *more: dict[str, Any]) -> dict[str, Any]:
    """Return a package of which tasks are made; its script fails where it is told to."""
    return {
        "application": "Web",
        "version": version,
        "orchestrators": ["sequential-by-deployment-group", "parallel-by-container"],
        "deployables": [
            {"name": "before", "type": "snapshot", "properties": {"keep": True, "quiesce": True}},
            {
                "name": "settings",
                "type": "configuration",
                "properties": {"path": "/etc/web.env", "values": {"VERSION": version}},
            },
            {
                "name": "migrate",
                "type": "script",
                "properties": {"script": script, "undo": "echo migrated back"},
            },
            *more,
        ],
    }


def tasks_of(demo: Demo) -> dict[str, str]:
    """Run tasks into the states that a reader meets; return the paths of their pages."""
    members = [
        {"vm": name, "group": group}
        for name, group in (("unit-tests", 1), ("nightly-ios", 2), ("signing", 2))
    ]
    body = {"name": "Production", "members": members}
    production = demo.post("admin", "/environments/", body)["id"]

    def run(document: dict[str, Any], wait: int) -> str:
        package = demo.post("admin", "/packages/", document)["id"]
        made = demo.post("admin", "/tasks/", {"environment": production, "package": package})
        demo.post("admin", f"/tasks/{made['id']}/start/", {}, wait=wait)
        return str(made["id"])

    done = run(_web("1.0", "echo 14 tables migrated"), wait=60)
    fails = "test {{container.name}} = unit-tests && echo 14 tables migrated"
    failed = run(_web("2.0", f"{fails} || echo the table orders is locked >&2 && false"), wait=60)
    pause = {"name": "settle", "type": "wait", "properties": {"seconds": 900}}
    runs = run(_web("2.1", "echo 14 tables migrated", pause), wait=3)
    return {
        "tasks": "/tasks/",
        "task-done": f"/tasks/{done}/",
        "task-failed": f"/tasks/{failed}/",
        "task-runs": f"/tasks/{runs}/",
        "task-step": f"/tasks/{failed}/?step=0_1_1_1_1",
        "task-log": f"/tasks/{failed}/steps/0_1_1_1_1/log/",
        "task-rollback": f"/tasks/{failed}/rollback/",
        "task-schedule": f"/tasks/{failed}/schedule/",
        "task-cancel": f"/tasks/{failed}/cancel/",
    }


def take_preview(demo: Demo, browser: Browser, cookies: Any, paths: dict[str, str]) -> None:
    """Write the pictures of docs/deployments.md."""
    with browser.new_context(
        base_url=demo.url,
        storage_state=cookies,
        viewport={"width": 1280, "height": 860},
        color_scheme="light",
    ) as context:
        page = context.new_page()
        page.goto(paths["deploy-preview"])
        page.locator("#changes tr[data-key]").first.click()
        page.locator(".page-head").scroll_into_view_if_needed()
        page.screenshot(path=PREVIEW)
        page.goto(paths["environment"])
        page.screenshot(path=ENVIRONMENT)


def take_overview(demo: Demo, browser: Browser, cookies: Any) -> None:
    """Write the picture of the README while one VM waits and one is being made."""
    with browser.new_context(
        base_url=demo.url,
        storage_state=cookies,
        viewport={"width": 1440, "height": 900},
        color_scheme="light",
    ) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#live")).to_have_attribute("data-state", "live")
        for who, wanted in LAST:
            demo.post(who, "/vms/", wanted)
        jobs = page.locator("section", has=page.get_by_role("heading", name="Jobs under way"))
        expect(jobs.locator("tr", has_text="load-test")).to_contain_text(
            "is making it", timeout=30_000
        )
        page.screenshot(path=PICTURE)


def pages_of(demo: Demo) -> dict[str, str]:
    """Return the paths of all pages, by a name for their pictures."""
    vm = _id_of(demo, "/vms/", "bob-linux")
    command = {"command": "uname -a; cat /etc/os-release"}
    job = demo.post("bob", f"/vms/{vm}/execute/", command, wait=60)
    host = _id_of(demo, "/hosts/", "mac-1")
    reason = {"reason": "The disk is being replaced."}
    demo.post("admin", f"/hosts/{_id_of(demo, '/hosts/', 'mac-3')}/cordon/", reason, wait=5)
    drain = {"reason": "It gets a new disk.", "policy": "wait"}
    demo.post("admin", f"/hosts/{host}/drain/", drain, wait=5)
    window = {
        "reason": "macOS 27",
        "starts_at": "2099-01-01T10:00:00Z",
        "until": "2099-01-01T12:00:00Z",
    }
    demo.post("admin", f"/hosts/{host}/maintain/", window, wait=5)
    for name in ("clean", "tested"):
        demo.post("bob", f"/vms/{vm}/snapshots/", {"name": name}, wait=30)
    demo.post("bob", f"/vms/{vm}/hold/", {"reason": "A flaky test."}, wait=5)
    chat = {"name": "chat", "url": "http://127.0.0.1:1/hook", "kinds": ["vm", "lease.ending"]}
    webhook = demo.post("admin", "/webhooks/", chat)
    demo.post("admin", "/enrolment-tokens/", {"host_name": "mac-studio-7", "minutes": 60})
    demo.post("admin", f"/webhooks/{webhook['id']}/test/", {})
    quota = demo.post("admin", "/quotas/", {"role": "Developer", "maximum_vms": 20})
    filtered = {"verb": "vm.take_snapshot", "filter": {"template": "macos-xcode", "open": "true"}}
    batch = demo.post("admin", "/batches/", filtered, wait=30)
    template = _id_of(demo, "/templates/", "ubuntu-ci")
    pool = demo.clients["admin"].patch(f"/templates/{template}/warm-pool/", json={"size": 2})
    pool.raise_for_status()
    image = _id_of(demo, "/images/")
    told = {"tags": ["latest", "lts"], "required_roles": ["iOS team"], "minimum_cpus": 4}
    told |= {"description": "Xcode and its simulators, for nightly builds."}
    demo.clients["admin"].patch(f"/images/{image}/", json=told).raise_for_status()
    listed = [
        "webhooks",
        "hosts",
        "queue",
        "images",
        "residues",
        "templates",
        "vms",
        "jobs",
        "tokens",
        "users",
        "service-accounts",
        "roles",
        "audit",
    ]
    return {
        "overview": "/",
        **{name: f"/{name}/" for name in listed},
        "host": f"/hosts/{host}/",
        "host-new": "/hosts/new/",
        "host-drain": f"/hosts/{host}/drain/",
        "host-maintain": f"/hosts/{host}/maintain/",
        "webhook": f"/webhooks/{webhook['id']}/",
        "webhook-new": "/webhooks/new/",
        "enrolment-tokens": "/hosts/enrolment-tokens/",
        "enrolment-token-new": "/hosts/enrolment-tokens/new/",
        "host-logs": f"/hosts/{host}/logs/",
        "host-proxy": f"/hosts/{host}/reverse-proxy/",
        "quota": f"/quotas/{quota['id']}/edit/",
        "batch": f"/jobs/{batch['id']}/",
        "batch-new": "/jobs/batches/new/?verb=vm.stop&all=on&query=state%3Dopen",
        "host-remove": f"/hosts/{host}/remove/",
        "image": f"/images/{image}/",
        "image-new": "/images/new/",
        "image-edit": f"/images/{image}/edit/",
        "image-cache": f"/images/{image}/cache/",
        "images-readiness": "/images/readiness/",
        "images-push": f"/images/push/{host}/",
        "source": f"/images/sources/{_id_of(demo, '/sources/')}/",
        "source-new": "/images/sources/new/",
        "template": f"/templates/{template}/",
        "template-pool": f"/templates/{template}/warm-pool/",
        "template-new": "/templates/new/",
        "template-revoke": f"/templates/{template}/revoke/",
        "vm": f"/vms/{vm}/",
        "vm-waiting": f"/vms/{_id_of(demo, '/vms/', 'store-upload')}/",
        "vm-new": "/vms/new/",
        "vm-snapshot": f"/vms/{vm}/snapshots/new/",
        "vm-placement": f"/vms/{vm}/placement/",
        "job": f"/jobs/{job['id']}/",
        "token": f"/tokens/{_id_of(demo, '/tokens/')}/",
        "token-new": "/tokens/new/",
        "user": f"/users/{_id_of(demo, '/users/')}/",
        "user-new": "/users/new/",
        "service-account": f"/service-accounts/{_id_of(demo, '/service-accounts/')}/",
        "service-account-new": "/service-accounts/new/",
        "token-rotate": f"/tokens/{_id_of(demo, '/tokens/')}/rotate/",
        "leaked-tokens": f"/users/{_id_of(demo, '/users/')}/leaked-tokens/",
        "account": "/account/",
        "password": "/accounts/password/change/",
        "two-factor": "/accounts/2fa/",
        "sessions": "/account/sessions/",
        "second-factor": "/account/second-factor/",
        "invitations": "/invitations/",
        "invite": "/invitations/new/",
        "user-sign-out": f"/users/{_id_of(demo, '/users/')}/sign-out/",
        "sign-out": "/accounts/logout/",
        "missing": "/vms/00000000-0000-7000-8000-000000000000/",
        "nothing-found": "/vms/?q=nothing-like-this",
    }


def take_pages(
    demo: Demo, browser: Browser, cookies: Any, folder: Path, paths: dict[str, str]
) -> list[str]:
    """Write every page into `folder`; return those that are wider than their window."""
    folder.mkdir(parents=True, exist_ok=True)
    too_wide = []
    for scheme in ("light", "dark"):
        for width, height in ((1440, 900), (390, 844)):
            with browser.new_context(
                base_url=demo.url,
                color_scheme=scheme,
                viewport={"width": width, "height": height},
            ) as context:
                take(context, folder / f"login-{scheme}-{width}.png", "/accounts/login/")
                context.add_cookies(cookies["cookies"])
                for name, path in paths.items():
                    picture = folder / f"{name}-{scheme}-{width}.png"
                    if take(context, picture, path) > width:
                        too_wide.append(picture.name)
    return too_wide


def take(context: BrowserContext, picture: Path, path: str) -> int:
    """Write the whole of a page into `picture` and return its width."""
    page = context.new_page()
    page.goto(path)
    page.screenshot(path=picture, full_page=True)
    width: int = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    return width


def main() -> None:
    """Take the pictures that were asked for."""
    parser = argparse.ArgumentParser(description="Take the pictures of the documentation.")
    parser.add_argument("--pages", type=Path, help="also every page, into this folder")
    options = parser.parse_args()
    with running_demo() as demo, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        populate(demo)
        cookies = demo.sign_in(browser)
        take_overview(demo, browser, cookies)
        deployments = deployments_of(demo)
        take_preview(demo, browser, cookies, deployments)
        too_wide = []
        if options.pages:
            paths = pages_of(demo) | deployments | tasks_of(demo)
            too_wide = take_pages(demo, browser, cookies, options.pages, paths)
        browser.close()
    if too_wide:
        sys.exit(f"Wider than their window: {', '.join(too_wide)}")


if __name__ == "__main__":
    main()
