from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig

if TYPE_CHECKING:
    from uuid import UUID


class ConsoleConfig(AppConfig):
    """The pages that span rooms, and the commands that run the product."""

    name = "orchestrator.console"
    label = "console"

    def ready(self) -> None:
        from accounts.models import ApiToken, User
        from catalog.models import Image
        from deployments.models import Dictionary, Environment, Package
        from hosts.models import Host
        from orchestrator.web import names
        from vms.models import AccessRequest, Template, VirtualMachine

        def by(model: Any, field: str) -> names.Lookup:
            def lookup(keys: set[UUID]) -> dict[UUID, str]:
                return dict(model.objects.filter(pk__in=keys).values_list("pk", field))

            return lookup

        def template(name: str) -> UUID | None:
            return Template.objects.filter(name__iexact=name).values_list("pk", flat=True).first()

        def packages(keys: set[UUID]) -> dict[UUID, str]:
            rows = Package.objects.filter(pk__in=keys).select_related("application")
            return {package.pk: package.title for package in rows}

        def images(keys: set[UUID]) -> dict[UUID, str]:
            return {image.pk: image.name for image in Image.objects.filter(pk__in=keys)}

        names.register("vm", by(VirtualMachine, "name"))
        names.register("template", by(Template, "name"), template)
        names.register("access_request", by(AccessRequest, "name"))
        names.register("host", by(Host, "name"))
        names.register("user", by(User, "username"))
        names.register("token", by(ApiToken, "name"))
        names.register("image", images)
        names.register("environment", by(Environment, "name"))
        names.register("dictionary", by(Dictionary, "name"))
        names.register("package", packages)
