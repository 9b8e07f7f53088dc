"""An application and CometBFT, in real processes: blocks, transactions, and every part of a node killed."""

import itertools
import signal
from datetime import datetime

from tests.examples import in_soak
from tests.govern.cometbft.network import Network, alive, needs_cometbft
from tests.waiting import until

pytestmark = needs_cometbft


def add(node, *numbers):
    """Hand transactions over to a node; each is another one, for a number may have zeros before it."""
    with node.rpc() as rpc:
        for number in numbers:
            assert rpc.broadcast_tx_sync(number.encode()).code == 0


def total(node):
    """What the application of a node has on its disk: the sum, once it is the one of a block."""
    return node.folder.joinpath("total.json").read_text()


def header(node, height):
    with node.rpc() as rpc:
        return rpc.commit(height)["signed_header"]["header"]


def counted(nodes, value):
    until(lambda: all(total(node).endswith(f" {value}]") for node in nodes))


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
