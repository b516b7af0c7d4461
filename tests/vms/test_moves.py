"""The table of moves: every pair of states."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from accounts.models import User
from vms.lifecycle import MOVES, move
from vms.models import Grant, Template, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from typing import Any

SIZE = {"cpus": 1, "memory_mib": 512, "disk_gib": 5}


@pytest.fixture
def vm(bob: User) -> VirtualMachine:
    template = Template.objects.create(
        name="t", default_lease_seconds=60, maximum_lease_seconds=60, **SIZE
    )
    grant = Grant.objects.create(template=template, user=bob, maximum_vms=2, vms=1)
    values: dict[str, Any] = {"template": template, "grant": grant, "requested_by": bob}
    return VirtualMachine.objects.create(name="vm", lease_seconds=60, **values, **SIZE)


def test_every_pair_moves_as_the_table_says_and_only_from_what_is_expected(
    vm: VirtualMachine,
) -> None:
    assert set(MOVES) == set(State)
    for before, after in product(State, State):
        Grant.objects.update(vms=1)
        VirtualMachine.objects.update(state=before, ended_at=None)
        vm.refresh_from_db()
        if after not in MOVES[before]:
            with pytest.raises(ValueError, match="never moves"):
                move(vm, after, expect=[before])
            vm.refresh_from_db()
            assert vm.state == before
            continue
        assert move(vm, after, expect=[before]), (before, after)
        assert vm.state == after
        assert bool(vm.ended_at) == (after in State.final())
        # A final state gives the grant's place back, once.
        assert Grant.objects.get().vms == (0 if after in State.final() else 1)
        if before != after:
            assert not move(vm, after, expect=[before]), "the state was another one by then"


def test_final_states_are_left_by_nobody() -> None:
    assert all(not MOVES[State(state)] for state in State.final())
