"""Where a VM is wanted beyond what its template says: an architecture, any of some tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hosts.models import Host
from orchestrator.refusals import Invalid
from tests.vms.conftest import reread
from vms.models import WarmPool
from vms.placement import place_pending
from vms.pools import _is_where_wanted

if TYPE_CHECKING:
    from tests.vms.conftest import Pool


def test_only_hosts_that_are_wanted_take_it(pool: Pool) -> None:
    Host.objects.filter(name="mac-2").update(tags=["iOS", "m2"])
    somewhere = pool.ask(host_tags=["IOS", "android"], architecture="arm64", start=False)
    nowhere = pool.ask(host_tags=["windows"])
    wrong = pool.ask(architecture="x86_64")
    place_pending()
    assert [str(reread(vm).host) for vm in (somewhere, nowhere, wrong)] == ["mac-2", "None", "None"]
    assert "windows" in reread(nowhere).reason
    assert "x86_64" in reread(wrong).reason
    with pytest.raises(Invalid):
        pool.ask(architecture="sparc")
    # One that is kept ready is taken under the same conditions.
    kept = reread(somewhere)
    kept.pool = WarmPool()
    fits = [_is_where_wanted(kept, vm) for vm in (somewhere, nowhere, wrong)]
    assert fits == [True, False, False]
