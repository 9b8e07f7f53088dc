"""A small ledger to try one rule on: four hospitals with stakes, and one patient group that has delegated."""

from contextlib import contextmanager

import pytest

from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.genesis import Genesis, start
from fedmeta.govern.rules import stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Delegation
from tests.govern import playing

HOSPITALS = ("ada", "bern", "cork", "delft")

PARAMETERS = {
    "term_length": 1_000,
    "standbys": 0,
    "min_self_stake": 100,
    "unbonding_blocks": 3_440,
    "voting_blocks": 5,
}


def genesis(**options) -> Genesis:
    """Return the genesis of the small ledger; `playing.federation` says what can be different."""
    made = {"stakes": dict.fromkeys(HOSPITALS, 1_000), "delegations": (("evora", "ada", 500),), **PARAMETERS, **options}
    return playing.federation(**made)


def context(height=1, time=playing.TIME, **options):
    """Return the context of a block at a height of the small ledger."""
    return Context(start(genesis(**options)).state, height, time)


def later(context, blocks=1, time=0):
    """Return the context of a later block, upon what one has written."""
    state = context.draft.finish()
    return Context(state, context.height + blocks, context.time + time)


@contextmanager
def refuses(code, match=None):
    """Expect a refusal with a code."""
    with pytest.raises(Refused, match=match) as caught:
        yield
    assert caught.value.code == code


def settle_all(context, name):
    """Count the rewards of all of a member's delegations, as a change of its stakes does."""
    for delegation in context.draft.where(Delegation, "member", name):
        stake._settle(context, delegation, context.candidate(delegation.candidate))
