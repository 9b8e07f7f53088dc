"""Four validators on hosts that are cut from each other: no half decides, three go on, and all agree once healed."""

import pytest

from tests.examples import TIMES
from tests.govern.cometbft.counter import add, counted, header, total
from tests.govern.cometbft.network import Network, needs_cometbft
from tests.govern.cometbft.partitions import parted
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
