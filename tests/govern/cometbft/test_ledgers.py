"""Ledgers whose super nodes decide the blocks, in real processes: killed, paused, replaced, misled and flooded."""

import signal

from tests.govern.cometbft.ledgers import Ledgers
from tests.govern.cometbft.network import needs_cometbft
from tests.govern.cometbft.outside import Load, agree, nothing_lost
from tests.govern.playing import federation
from tests.waiting import until

pytestmark = needs_cometbft

QUICK = {"patience": {"look": 0.5, "still": 6}, "block_interval": 100, "empty_interval": 500}


def quiet(**options):
    return federation(validators=True, contributors=(), free=10**9, **options)


def test_whatever_part_of_a_validator_is_killed_nothing_that_was_acknowledged_is_lost():
    """A validator is an application and its CometBFT: the node, and CometBFT alone."""
    with Ledgers(quiet(), **QUICK) as network:
        network.start()
        network.wait(2)
        with Load(network, range(4)) as load:
            load.further(10)
            for node, part in ((1, "kill"), (2, "kill_engine"), (3, "kill")):
                getattr(network[node], part)()
                load.further(10)
                if part == "kill":
                    network[node].start()
                network.wait_further(2)
            # Two of four: none goes on, until one is back.
            network[0].kill()
            network[1].kill_engine()
            network[1].signal(signal.SIGSTOP)
            until(lambda: "is the last one" in network.status(2)["fault"])
            stood = network[2].height
            assert network[3].height == stood
            network[1].signal(signal.SIGCONT)
            network[0].start()
            load.further(10)
        network.wait_further(3)
        views, _ = agree(network)
        nothing_lost(views, load)
