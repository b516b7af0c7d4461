"""Dialogs and buttons of a VM's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.views.decorators.http import require_http_methods, require_POST

from orchestrator.web import pages
from vms import verbs
from vms.configuration import FolderWish, Wish
from vms.forms.configuring import ConfigureForm, ShareFolderForm
from vms.views.machines import page_of, vm_of

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest

form_view = require_http_methods(["GET", "HEAD", "POST"])


@pages.page
@form_view
def configure(request: PageRequest, id: UUID) -> HttpResponse:
    """Change options of a VM."""
    vm = vm_of(request, id)
    known = vm.configuration.get("options", {})
    return pages.dialog(
        request,
        "vms/verb.html",
        ConfigureForm(pages.posted(request), known=known),
        lambda v: verbs.configure(request.actor, vm, Wish(options=v["options"])),
        back=page_of(vm),
        told=f"{vm.name} is being configured.",
        vm=vm,
        title=f"Configure {vm.name}",
        text="Most of this needs it stopped. Its host may show other words for it then.",
        verb="Configure",
        danger=False,
    )


@pages.page
@form_view
def share_folder(request: PageRequest, id: UUID) -> HttpResponse:
    """Let a VM see a folder of its host."""
    vm = vm_of(request, id)

    def act(values: dict[str, Any]) -> Any:
        folder = FolderWish(
            path=values["path"],
            writable=values["writable"],
            enabled=True,
            description=values["description"],
        )
        return verbs.configure(request.actor, vm, Wish(folders={values["name"]: folder}))

    return pages.dialog(
        request,
        "vms/verb.html",
        ShareFolderForm(pages.posted(request)),
        act,
        back=page_of(vm),
        told="The folder is being shared.",
        vm=vm,
        title=f"Share a folder with {vm.name}",
        text="Whoever uses the VM sees what is in it. One of this name is changed.",
        verb="Share it",
        danger=False,
    )


@pages.page
@require_POST
def unshare_folder(request: PageRequest, id: UUID) -> HttpResponse:
    """Take a shared folder from a VM."""
    vm = vm_of(request, id)
    name = request.POST.get("name", "")
    verbs.configure(request.actor, vm, Wish(folders={name: None}))
    return pages.done(request, page_of(vm), f"{name} is being taken away.")
