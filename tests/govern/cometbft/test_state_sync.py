"""Nodes that begin by state sync at a header that they trust, in real processes; and ones that end while they do."""

import pytest

from fedmeta.govern.client.audit import verify_ledger
from fedmeta.govern.engines.cometbft.config import StateSync
from fedmeta.govern.machine.header import decode_signed
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.commits import decode_certificate
from tests.examples import in_soak
from tests.govern.cometbft.ledgers import Ledgers
from tests.govern.cometbft.network import needs_cometbft
from tests.govern.cometbft.outside import Load, agree, nothing_lost
from tests.govern.playing import federation
from tests.waiting import until

pytestmark = needs_cometbft

QUICK = {"patience": {"look": 0.5, "still": 6}, "block_interval": 100, "empty_interval": 500}
FIRST = range(4)


def joined(**options):
    """Return a network of four validators and one more node, that is to come later."""
    genesis = federation(validators=True, contributors=(), free=10**9)
    network = Ledgers(genesis, more=1, **QUICK, **options)
    for number in range(2):
        network.change(number, rpc_listen=f"tcp://{network[number].host}:31657")
    return network


def trust(network, blocks=25):
    """Let the fifth node begin by state sync from the first header on, once there are some blocks."""
    network.wait(3, FIRST)
    with network.client(0) as client:
        given = until(lambda: client.encoded_block(1))
    trusted = decode_certificate(decode_signed(codec.decode(given)[0]).certificate).header
    network.wait(blocks, FIRST)
    servers = tuple(f"{network[number].host}:31657" for number in range(2))
    network.change(4, state_sync=StateSync(servers, trusted.height, trusted.hash, 400))


def began_late(network, load):
    """Where the newcomer began, what all nodes have, and a follower, once all agree and nothing is lost."""
    network.wait_further(3)
    with network[4].rpc() as rpc:
        begun = rpc.status().first_height
    assert begun > 10
    views, follower = agree(network, [*FIRST, 4], {4: begun})
    nothing_lost(views, load)
    return begun, views, follower


def sound_from(network, begun):
    """Stop the newcomer: its file is sound, from the snapshot on."""
    network[4].stop()
    audit = verify_ledger(network[4].folder / "ledger.db")
    assert audit.sound, audit.problem
    assert audit.start == begun - 1


@in_soak
def test_a_new_member_begins_at_a_snapshot_by_a_header_that_it_trusts_and_checks_all_that_follows():
    with joined() as network:
        network.start(FIRST)
        with Load(network, FIRST) as load:
            trust(network)
            network.start([4])
            until(lambda: network.status(4).get("height"))
            load.further(10)
        begun, views, follower = began_late(network, load)
        last = max(height for height, one in enumerate(views, 1) if one.items)
        with network.client(4) as client:
            until(lambda: network.status(4)["decided"]["height"] >= last)
            assert network.status(4)["first_block"] == begun
            # The header that it began with is certified as the others are.
            assert client.header(begun - 1)["certificate"]
        # It goes on from its own file.
        network[4].kill()
        network[4].start()
        network.wait_further(2)
        sound_from(network, begun)
        assert follower.height


@in_soak
@pytest.mark.parametrize("how", ["dies", "fails"])
def test_a_node_that_ended_between_the_last_chunk_and_cometbft_s_own_state_begins_anew_by_itself(how):
    """All of it, or CometBFT alone: its state is that of the genesis then, and the ledger's is not."""
    with joined(acting={4: how}) as network:
        network.start(FIRST)
        with Load(network, FIRST) as load:
            trust(network)
            network.start([4])
            until((network[4].folder / "acted").exists)
            if how == "dies":
                until(lambda: network[4].process.poll() is not None)
                network[4].start()
            until(lambda: network.status(4).get("height"))
            load.further(10)
        begun, _, _ = began_late(network, load)
        sound_from(network, begun)
