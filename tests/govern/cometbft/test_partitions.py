"""Four validators on hosts that are cut from each other: no half decides, three go on, and all agree once healed."""

import pytest

from fedmeta.govern.engines.store import Store
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.examples import TIMES
from tests.govern.cometbft.counter import add, counted, header, total
from tests.govern.cometbft.ledgers import Ledgers
from tests.govern.cometbft.network import Network, needs_cometbft
from tests.govern.cometbft.outside import of_cometbft
from tests.govern.cometbft.partitions import parted
from tests.govern.playing import federation, key
from tests.node.process.networks import why_not
from tests.waiting import until

WHY = why_not() if TIMES else "runs for minutes: in `make soak`"
pytestmark = [pytest.mark.skipif(bool(WHY), reason=WHY), needs_cometbft]


def told(network, number, name):
    return [one for one in network[number].news() if one[0] == name]


def test_halves_stop_three_go_on_and_all_agree_once_healed():
    with parted(4) as hosts, Network(4, places=hosts.places, patience={"look": 0.5, "still": 8}) as network:
        network.start()
        network.wait(2)
        add(network[0], "1")
        counted(network, 1)

        hosts.cut([0, 1], [2, 3])
        add(network[0], "10")
        add(network[3], "20")
        for number in range(4):
            until(lambda number=number: told(network, number, "StandsStill"))
        assert [total(node).endswith(" 1]") for node in network] == [True] * 4
        hosts.heal()
        counted(network, 31)

        hosts.cut([0, 1, 2], [3])
        add(network[0], "100")
        counted(network[:3], 131)
        network.wait_further(3, [0, 1, 2])
        assert total(network[3]).endswith(" 31]")
        hosts.heal()
        counted(network, 131)

        height = min(node.height for node in network)
        assert len({str(header(node, height)) for node in network}) == 1


def place(node, raw):
    """Return where a transaction stands in a node's ledger, also while no HTTP of the node can be reached from here."""
    with Store.read(node.folder / "ledger.db") as store:
        return store.place(digest(raw))


def test_no_half_of_a_ledger_s_validators_decides_and_none_of_what_waits_is_lost_or_done_twice():
    genesis = federation(validators=True, contributors=())
    with parted(4) as hosts, Ledgers(genesis, places=hosts.places, patience={"look": 0.5, "still": 8}) as network:

        def send(number, name, sequence=0):
            raw = tx.sign(key(name), genesis.digest, name, sequence, tx.Delegate("ann", 5))
            with network[number].rpc() as rpc:
                assert rpc.broadcast_tx_sync(raw).code == 0
            return raw

        def everywhere(raw, nodes=range(4)):
            for number in nodes:
                until(lambda number=number: place(network[number], raw))
            (found,) = {place(network[number], raw) for number in nodes}
            assert found.code == ""

        network.start()
        network.wait(2)
        everywhere(send(0, "hal"))

        hosts.cut([0, 1], [2, 3])
        here, there = send(0, "ivy"), send(3, "joy")
        for node in network:
            until(lambda node=node: "is the last one" in node.log)
        assert [place(node, raw) for node in network for raw in (here, there)] == [None] * 8
        hosts.heal()
        everywhere(here)
        everywhere(there)

        hosts.cut([0, 1, 2], [3])
        more = send(0, "hal", 1)
        everywhere(more, range(3))
        network.wait_further(3, [0, 1, 2])
        assert place(network[3], more) is None
        hosts.heal()
        everywhere(more)
        network.wait_further(2)
        last = min(node.height for node in network) - 1
        views = [of_cometbft(node, 1, last)[0] for node in network]
        assert views[0] == views[1] == views[2] == views[3]
        found = [raw for one in views[0] for raw in one.items]
        assert sorted(map(found.count, found)) == [1] * 4
