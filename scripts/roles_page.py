"""Write docs/roles.md from the tables of the code: `python -m scripts.roles_page`.

`tests/orchestrator/test_pages.py` fails when the page is not what this makes.
"""

from __future__ import annotations

from pathlib import Path

from accounts.permissions import PERMISSIONS, SCOPES
from accounts.roles import SHIPPED_ROLES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "roles.md"

INTRODUCTION = """\
# Roles

<!-- Made by `python -m scripts.roles_page` from accounts/roles.py. Do not edit. -->

An account has any number of roles and may do what any of them allows. To use a template it also
needs a grant. Nothing is cached: a role that is taken away is gone with the next request.
"""

SCOPES_OF_VMS = """\
## Whose VMs

| | one's own | those on the share of one's roles | everybody's |
|---|---|---|---|
| see | always | `vms.view_roles` | `vms.view_all` |
| act on | `vms.use` | `vms.manage_roles` | `vms.manage_all` |

It is the same for lists, pages, live updates, events and webhooks. A VM counts on the share of the
role whose grant allowed it, else of its asker's role of the greatest weight.

## Why, and what if

What an account or a token can do, and what gives it each right, is on its page (*What it can do*)
and at `/api/v2/users/<id>/rights/`, `/api/v2/tokens/<id>/rights/` and
`/api/v2/access/?subject=…`. What a change would hit is asked with the values that it would have:
`/api/v2/roles/<id>/impact/?permissions=…` (without: deleting it) and
`/api/v2/users/<id>/impact/?roles=…` (without: deactivating it).
"""

TOKENS = """\
## Scopes of a token

A token only narrows its account: it may do what its scopes *and* the account's roles allow. It may
also be narrowed to some templates, and end by itself.
"""


def page() -> str:
    """Return the page as Markdown."""
    head = ["Permission", "Meaning", "Scope of a token", *SHIPPED_ROLES]
    rows = [
        [
            f"`{code}`",
            permission.label,
            f"`{permission.noun}`" if permission.noun else "any",
            *("yes" if code in allowed else "" for allowed in SHIPPED_ROLES.values()),
        ]
        for code, permission in PERMISSIONS.items()
    ]
    scopes = [[f"`{scope}`", meaning] for scope, meaning in SCOPES.items()]
    return "\n".join(
        [
            *(INTRODUCTION, _table(head, rows), "", SCOPES_OF_VMS),
            *(TOKENS, _table(["Scope", "Allows"], scopes), ""),
        ]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        "| " + " ".join(f"{cell} |".lstrip() for cell in cells)
        for cells in [head, ["---"] * len(head), *rows]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
