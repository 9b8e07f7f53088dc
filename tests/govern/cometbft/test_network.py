"""An application and CometBFT, in real processes: blocks, transactions, and every part of a node killed."""

import itertools
import signal
from datetime import datetime

import pytest

from fedmeta.govern.engines.cometbft.abci import Fault
from fedmeta.govern.engines.cometbft.config import StateSync
from fedmeta.govern.engines.cometbft.home import address_of
from fedmeta.govern.errors import EngineError
from fedmeta.govern.wire.signatures import Key
from tests.examples import in_soak
from tests.govern.cometbft.counter import add, counted, faults, header, total
from tests.govern.cometbft.network import Network, alive, needs_cometbft
from tests.waiting import until

pytestmark = needs_cometbft


def test_one_validator_makes_blocks_takes_transactions_and_survives_kills():
    with Network(1) as network:
        network.start()
        network.wait(2)
        node = network[0]
        add(node, "5", "7")
        counted(network, 12)
        with node.rpc() as rpc:
            refused = rpc.broadcast_tx_sync(b"nonsense")
            again = rpc.broadcast_tx_sync(b"7")
            assert [one["voting_power"] for one in rpc.validators(2)["validators"]] == ["10"]
            assert rpc.block(1)["block"]["header"]["chain_id"] == "counter"
            assert (rpc.status().address, rpc.status().power) == (address_of(node.consensus.public), 10)
            with pytest.raises(EngineError, match="refuses block_results"):
                rpc.block_results(1)
            with pytest.raises(EngineError, match="refuses commit"):
                rpc.commit(1_000)
        assert (refused.code, refused.log) == (1, "b'nonsense' is no number")
        assert again.known
        engine = node.kill_engine()
        assert alive(node.process.pid)
        network.wait_further(2)
        assert node.engine != engine
        add(node, "30")
        counted(network, 42)
        engine = node.engine
        node.kill()
        assert not alive(engine)
        node.start()
        network.wait_further(2)
        add(node, "100")
        counted(network, 142)
        assert [one[:2] for one in node.news() if one[0] == "Ended"] == [["Ended", -signal.SIGKILL]]


@in_soak
def test_four_validators_agree_whatever_part_of_one_is_killed():
    with Network(4, patience={"look": 0.5, "still": 5}) as network:
        network.start()
        network.wait(2)
        add(network[0], "1")
        add(network[3], "2")
        counted(network, 3)
        with network[0].rpc() as rpc:
            until(lambda: {one.name for one in rpc.net_info()} == {"node1", "node2", "node3"})
            assert rpc.validators(1)["total"] == "4"

        network[1].kill_engine()
        network.wait_further(2, [0, 2, 3])
        add(network[2], "10")
        counted(network, 13)

        network[2].kill()
        network.wait_further(2, [0, 1, 3])
        add(network[1], "20")
        counted([network[0], network[1], network[3]], 33)

        network[3].signal_engine(signal.SIGSTOP)
        # Two of four: nothing is decided, and nothing is forgotten.
        add(network[0], "100")
        until(lambda: any(name == "StandsStill" for name, *_ in network[0].news()))
        assert total(network[0]).endswith(" 33]")

        network[2].start()
        network[3].signal_engine(signal.SIGCONT)
        counted(network, 133)
        until(lambda: any(name == "GoesOn" for name, *_ in network[0].news()))
        assert len({header(node, 3)["app_hash"] for node in network}) == 1


@in_soak
def test_blocks_come_at_the_interval_where_nothing_happens_and_at_once_where_something_does():
    with Network(1, block_interval=100, empty_interval=2_000) as network:
        network.start()
        network.wait(4)
        add(network[0], "1")
        counted(network, 1)
        last = network.wait_further(3)
        headers = [header(network[0], height) for height in range(1, last + 1)]
    hashes = [one["app_hash"] for one in headers]
    changed = next(place for place, one in enumerate(hashes) if one != hashes[0])
    assert len(set(hashes)) == 2
    assert hashes[changed:] == [hashes[changed]] * (len(hashes) - changed)
    times = [datetime.fromisoformat(one["time"]) for one in headers]
    # A block's time is that of the votes for the one before.
    gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(times)]
    assert gaps[changed] < 1
    assert min(gaps[changed + 1 :]) > 1.9


@in_soak
def test_an_application_that_fails_ends_its_cometbft_which_asks_again():
    with Network(1) as network:
        network.start()
        network.wait(2)
        node = network[0]
        (node.folder / "fail").touch()
        until(lambda: any(name == "Ended" for name, *_ in node.news()))
        until(lambda: node.height > 0)
        add(node, "5")
        counted(network, 5)
        assert [one[1] for one in node.news() if one[0] == "Ended"] == [0]
        assert "RuntimeError: the counter was told to fail" in node.log


@in_soak
def test_a_node_that_comes_later_begins_with_a_snapshot_of_its_peers():
    with Network(3, validators=2) as network:
        for number in range(2):
            network.change(number, rpc_listen=f"tcp://{network[number].host}:31657")
        network.start([0, 1])
        network.wait(2, [0, 1])
        add(network[0], "123456")
        network.wait(12, [0, 1])
        with network[0].rpc() as rpc:
            trusted = rpc.commit(1)["signed_header"]["commit"]["block_id"]["hash"]
        servers = tuple(f"{network[number].host}:31657" for number in range(2))
        network.change(2, state_sync=StateSync(servers, 1, bytes.fromhex(trusted), 100 * 365 * 86_400))
        network.start([2])
        network.wait_further(2)
        counted(network, 123456)
        with network[2].rpc() as rpc:
            assert rpc.status().first_height >= 6


@in_soak
def test_a_validator_that_runs_twice_signs_twice_and_every_application_is_told():
    keys = [Key.from_seed(bytes([number + 1]) * 32) for number in (0, 1, 2, 3, 3)]
    with Network(5, keys=keys, validators=4) as network:
        network.start()
        network.wait(2, [0, 1, 2])
        network.wait_further(1, [0, 1, 2])
        until(lambda: all(faults(node) for node in network[:3]))
        seen = [faults(node) for node in network[:3]]
        assert seen[0] == seen[1] == seen[2]
        for kind, (address, power), height, _, total_power in seen[0]:
            assert (kind, address) == (Fault.DUPLICATE_VOTE, address_of(keys[3].public).hex())
            assert (power, total_power) == (10, 40)
            assert 0 < height <= network[0].height
