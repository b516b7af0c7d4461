from __future__ import annotations

from django.apps import AppConfig


class VmsConfig(AppConfig):
    """Templates and grants, VMs, placement, leases."""

    name = "vms"

    def ready(self) -> None:
        from accounts import revocation
        from catalog import caching, going, images
        from hosts import lifecycle
        from jobs import handlers
        from vms import (
            adoption,
            asking,
            bulk,
            bulk_grants,
            creation,
            ending,
            reconciliation,
            relying,
            revocations,
            verbs,
        )
        from vms.residue.handlers import CheckHandler, FixHandler

        handlers.register("vm.create", creation.CreateHandler())
        handlers.register("vm.delete", ending.DeleteHandler())
        handlers.register("placement.settle", ending.SettleHandler())
        handlers.register("vm.adopt", adoption.AdoptHandler())
        handlers.register("vm.let_go", adoption.LetGoHandler())
        handlers.register("placement.check", CheckHandler())
        handlers.register("residue.fix", FixHandler())
        for kind, handler in verbs.HANDLERS.items():
            handlers.register(kind, handler)
        handlers.register_at_once("vm.extend", "vm.heartbeat", "vm.hold", "vm.release", "vm.claim")
        handlers.register_at_once("template.revoke", "grant.revoke", "queue.hold", "queue.release")
        handlers.register_at_once(*asking.VERBS, bulk_grants.KIND)
        revocation.register(revocations.preview, revocations.apply)
        images.register(revocations.preview_image, revocations.apply_image)
        caching.register(relying.on_cache)
        going.register(relying.unneeded)
        lifecycle.register(
            inventory=reconciliation.on_inventory,
            removal=reconciliation.before_removal,
            available=reconciliation.on_available,
            news=reconciliation.on_news,
        )
        bulk.register()
