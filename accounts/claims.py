"""The words of the Parallels DevOps API for rights: its claims and roles, and what they are here.

A claim is held when the account's roles give one of the permissions that it stands for. Claims for
what every account may do with its own need none. Nothing is ever allowed because of a claim: this
table says what clients are shown, and what giving a claim to a role means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts.models import Role, User
from accounts.permissions import ALL

if TYPE_CHECKING:
    from accounts.actors import Actor


@dataclass(frozen=True)
class Claim:
    """A claim by its wire name. Any of `permissions` gives it; the first is what it gives.

    Without permissions every account holds it; `offered` is False where this product has nothing
    that it could stand for.
    """

    name: str
    group: str
    resource: str
    action: str
    permissions: tuple[str, ...] = ()
    offered: bool = True

    @property
    def free(self) -> bool:
        """Whether every account holds it."""
        return self.offered and not self.permissions

    def held_with(self, permissions: frozenset[str]) -> bool:
        """Return whether somebody with these permissions holds it."""
        return self.offered and (self.free or not permissions.isdisjoint(self.permissions))


def _claims() -> list[Claim]:
    see_vms = ("vms.use", "vms.view_all", "vms.view_roles")
    act = ("vms.use", "vms.manage_all", "vms.manage_roles")
    hosts, images = ("hosts.manage",), ("images.manage",)
    see_images, see_hosts = ("images.view",), ("hosts.view",)
    see_accounts, accounts = ("accounts.view",), ("accounts.manage",)
    rows: list[Claim] = []

    def add(
        group: str, resource: str, permissions: tuple[str, ...], *names: str, offered: bool = True
    ) -> None:
        rows.extend(
            Claim(name, group, resource, _action(name), permissions, offered) for name in names
        )

    add("general", "general", (), "READ_ONLY", "LIST")
    add("general", "general", hosts, "CREATE", "UPDATE", "DELETE")
    for noun in ("USER", "ROLE", "CLAIM", "API_KEY"):
        resource = noun.lower()
        add("authorization", resource, see_accounts, f"LIST_{noun}")
        add(
            "authorization",
            resource,
            accounts,
            *(f"{verb}_{noun}" for verb in ("CREATE", "UPDATE", "DELETE")),
        )
    for verb in ("LIST", "CREATE", "UPDATE", "DELETE"):
        add("authorization", "api_key", (), f"{verb}_OWN_API_KEY")
    add("virtual_machines", "vm", see_vms, "LIST_VM", "LIST_SNAPSHOT_VM", "LIST_OWN_VM_SNAPSHOT")
    add("virtual_machines", "vm", ("vms.use",), "CREATE_VM")
    add(
        "virtual_machines",
        "vm",
        act,
        *("DELETE_VM", "UPDATE_VM", "UPDATE_VM_STATES", "EXECUTE_COMMAND_VM"),
    )
    add(
        "virtual_machines",
        "snapshot",
        act,
        *("CREATE_SNAPSHOT_VM", "DELETE_SNAPSHOT_VM", "DELETE_ALL_SNAPSHOTS_VM"),
        *("REVERT_SNAPSHOT_VM", "CREATE_OWN_VM_SNAPSHOT", "DELETE_OWN_VM_SNAPSHOT"),
        *("DELETE_ALL_OWN_VM_SNAPSHOTS", "REVERT_OWN_VM_SNAPSHOT"),
    )
    for verb in ("LIST", "CREATE", "UPDATE", "DELETE"):
        add("templates", "packer", (), f"{verb}_PACKER_TEMPLATE", offered=False)
    # Who may ask for VMs sees the images of templates that they may use.
    add("catalog", "catalog_manifest", ("images.view", "vms.use"), "LIST_CATALOG_MANIFEST")
    add("catalog", "catalog_manifest", ("vms.use",), "PULL_CATALOG_MANIFEST")
    add(
        "catalog",
        "catalog_manifest",
        images,
        *(f"{verb}_CATALOG_MANIFEST" for verb in ("CREATE", "DELETE", "UPDATE", "PUSH", "IMPORT")),
    )
    add("cache", "cache", see_images, "LIST_CACHE")
    # The first is how the wire spells it.
    add("cache", "cache", hosts, "DELET_CACHE_ITEM", "DELETE_CACHE_ITEM", "DELETE_ALL_CACHE")
    for noun in (
        "REVERSE_PROXY_HOST",
        "REVERSE_PROXY_HOST_HTTP_ROUTE",
        "REVERSE_PROXY_HOST_TCP_ROUTE",
    ):
        add("reverse_proxy", "reverse_proxy", see_hosts, f"LIST_{noun}S")
        add(
            "reverse_proxy",
            "reverse_proxy",
            hosts,
            *(f"{verb}_{noun}" for verb in ("CREATE", "DELETE", "UPDATE")),
        )
    add("reverse_proxy", "reverse_proxy", hosts, "CONFIGURE_REVERSE_PROXY")
    add("ssh", "ssh", (), "EXECUTE_SSH", offered=False)
    for suffix in ("", "_OWN"):
        add("catalog_manager", "catalog_manager", see_images, f"CATALOG_MANAGER_LIST{suffix}")
        for verb in ("CREATE", "UPDATE", "DELETE"):
            add("catalog_manager", "catalog_manager", images, f"CATALOG_MANAGER_{verb}{suffix}")
    add(
        "catalog_manager",
        "catalog_manifest",
        see_images,
        "CATALOG_MANAGER_LIST_CATALOG_MANIFEST_OWN",
    )
    for verb in ("CREATE", "DELETE", "UPDATE", "PULL", "PUSH", "IMPORT"):
        add(
            "catalog_manager",
            "catalog_manifest",
            images,
            f"CATALOG_MANAGER_{verb}_CATALOG_MANIFEST_OWN",
        )
    add("jobs", "job", ("jobs.view_all",), "JOB_MANAGER_LIST")
    add("jobs", "job", (), "JOB_MANAGER_LIST_OWN", "JOB_MANAGER_DELETE")
    add("jobs", "job", (), "JOB_MANAGER_DEBUG", offered=False)
    return rows


def _action(name: str) -> str:
    words = {
        "LIST": "read",
        "READ": "read",
        "CREATE": "create",
        "UPDATE": "update",
        "DELETE": "delete",
        "DELET": "delete",
        "EXECUTE": "execute",
        "PULL": "pull",
        "PUSH": "push",
        "IMPORT": "import",
        "REVERT": "revert",
        "CONFIGURE": "configure",
    }
    return next((words[word] for word in name.split("_") if word in words), "execute")


CLAIMS = {claim.name: claim for claim in _claims()}
SUPER_USER = "SUPER_USER"
# Roles that clients name, and ours that they mean.
WIRE_ROLES = {SUPER_USER: "Administrator", "ADMIN": "Administrator", "USER": "Developer"}
_SHOWN_AS = {"Administrator": SUPER_USER, "Developer": "USER"}


def claims_of(actor: Actor) -> list[str]:
    """Return the claims that the actor holds, narrowed by its token."""
    return claims_with(actor.permissions)


def claims_with(permissions: frozenset[str]) -> list[str]:
    """Return the claims that somebody with these permissions holds."""
    return [name for name, claim in CLAIMS.items() if claim.held_with(permissions)]


def is_super_user(permissions: frozenset[str]) -> bool:
    """Return whether these permissions are all that there are."""
    return permissions >= ALL


def shown_role(role: Role) -> str:
    """Return a role's name on the wire."""
    return _SHOWN_AS.get(role.name, role.name) if role.shipped else role.name


def role_names_of(user: User) -> list[str]:
    """Return the names of an account's roles on the wire, `SUPER_USER` for who may do all."""
    roles = list(Role.objects.of(user.pk).select_related("group").order_by("group__name"))
    names = [shown_role(role) for role in roles]
    held = frozenset(code for role in roles for code in role.permissions)
    if is_super_user(held) and SUPER_USER not in names:
        names.append(SUPER_USER)
    return names
