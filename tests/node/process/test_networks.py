"""Contributors behind a router that drops what comes in, behind a proxy, on one-way routes and on a slow link.

The ledger and the seats are in one network namespace, each contributor in another: `e` behind a router that lets
nothing in but answers, `f` where only a proxy can be reached, which takes nothing but CONNECT, `g` with one way out and
another one back, `h` on a link of 1 Mbit/s.
"""

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from tests.examples import TIMES
from tests.node.process import federations
from tests.node.process.federations import Federation, federation
from tests.node.process.networks import PROXY, RATE, ROUTER, WORLD, Networks, beside, reaches, why_not
from tests.node.transport.proxies import inspecting

WHY = why_not() if TIMES else "runs for minutes: in `make soak`"
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)

HOST, TLS, CONNECT = "10.77.0.1", 7443, 3128
SPACES = {"e": "fm-e", "f": "fm-f", "g": "fm-g", "h": "fm-h"}


@dataclass
class Spread(Federation):
    """A federation in namespaces."""

    def program(self, name: str) -> list[str]:
        return ["ip", "netns", "exec", SPACES.get(name, WORLD), *super().program(name)]


def lay(made: Networks) -> None:
    """Lay cables and routes."""
    for one in (WORLD, ROUTER, PROXY, *SPACES.values()):
        made.space(one)
    for one in (WORLD, ROUTER):
        made.forward(one)
    made.cable(("", "fm-t0", "10.77.0.254/24"), (WORLD, "fm-t1", f"{HOST}/24"))
    made.cable((WORLD, "fm-wr", "10.77.1.1/24"), (ROUTER, "fm-rw", "10.77.1.2/24"))
    made.cable((ROUTER, "fm-re", "10.77.2.1/24"), ("fm-e", "fm-er", "10.77.2.2/24"))
    made.route(WORLD, "10.77.2.0/24", "via", "10.77.1.2")
    made.route(ROUTER, "default", "via", "10.77.1.1")
    made.route("fm-e", "default", "via", "10.77.2.1")
    made.cable((WORLD, "fm-wx", "10.77.3.1/24"), (PROXY, "fm-xw", "10.77.3.2/24"))
    made.cable((PROXY, "fm-xf", "10.77.4.1/24"), ("fm-f", "fm-fx", "10.77.4.2/24"))
    made.route(PROXY, "default", "via", "10.77.3.1")
    for one in (WORLD, "fm-g"):
        made.trusting(one)
    made.cable((WORLD, "fm-wo", "10.77.5.1/24"), ("fm-g", "fm-go", "10.77.5.2/24"))
    made.cable((WORLD, "fm-wb", "10.77.6.1/24"), ("fm-g", "fm-gb", "10.77.6.2/24"))
    made.route("fm-g", HOST, "via", "10.77.5.1", "src", "10.77.6.2")
    made.cable((WORLD, "fm-wh", "10.77.7.1/24"), ("fm-h", "fm-hw", "10.77.7.2/24"))
    made.route("fm-h", "default", "via", "10.77.7.1")
    for space, interface in ((WORLD, "fm-wh"), ("fm-h", "fm-hw")):
        made.inside(space, "tc", "qdisc", "add", "dev", interface, "root", "tbf", *RATE)


@pytest.fixture(scope="module")
def spread():
    # An update of 150 kB, and a state of 450 kB.
    procedure = federations.procedure(model="mlp", model_options={"hidden": 500}, cohort_size=8)
    windows = {"deliver_blocks": 120}
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(Networks())
        lay(made)
        options = {"kinds": {"b": "recording"}, "host": HOST, "parameters": windows, "procedure": procedure}
        found = stack.enter_context(federation(seats=4, others=4, cls=Spread, **options))

        def arrange(found: Spread) -> None:
            authority, _ = inspecting(found.folder, "ledger.test")
            config = found.hosts["f"].folder / "node.toml"
            text = config.read_text().replace(found.address, f"https://ledger.test:{TLS}")
            settings = f'[network]\nproxy = "http://10.77.4.1:{CONNECT}"\nca = "{authority}"'
            config.write_text(text.replace("[network]", settings, 1))
            ports = [found.ledger_port, *(one.port for one in found.hosts.values() if one.port)]
            made.answers_only(ROUTER, "fm-rw", ports)
            log = stack.enter_context(open(found.folder / "beside.txt", "wb"))
            known = f"ledger.test:{TLS}={HOST}:{TLS}"
            stack.enter_context(beside(PROXY, log, "proxy", "10.77.4.1", CONNECT, known))
            secret, ledger = found.folder / "proxy.pem", f"{HOST}:{found.ledger_port}"
            stack.enter_context(beside(WORLD, log, "tls", HOST, TLS, secret, ledger))

        found.begin(arrange)
        found.more_finals(1, 240)
        yield found, made


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_contributor_is_in_wherever_it_is(spread, name):
    found, _ = spread
    found.more_finals(2, 240, includes=name)
    found.check()


def test_behind_the_router_nobody_is_reached_and_everybody_can_be(spread):
    found, _ = spread
    program = "import socket, time; s = socket.create_server(('', 9000)); print('up', flush=True); time.sleep(60)"
    command = ["ip", "netns", "exec", SPACES["e"], sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as listener:
        try:
            assert listener.stdout is not None
            listener.stdout.readline()
            assert reaches(ROUTER, "10.77.2.2", 9000) == ""
            assert "TimeoutError" in reaches(WORLD, "10.77.2.2", 9000)
        finally:
            listener.kill()
    assert reaches(SPACES["e"], HOST, found.ledger_port) == ""


def test_behind_the_proxy_nothing_but_the_proxy_is_reached(spread):
    found, _ = spread
    assert reaches(SPACES["f"], "10.77.4.1", CONNECT) == ""
    assert "unreachable" in reaches(SPACES["f"], HOST, found.ledger_port)
    asked = set((found.folder / "beside.txt").read_text().split("\n"))
    assert f"CONNECT ledger.test:{TLS}" in asked
    assert {f"CONNECT {HOST}:{one.port}" for one in found.hosts.values() if one.port} <= asked
    assert not any(one.startswith(("GET", "POST")) for one in asked)


def test_one_way_out_and_another_one_back(spread):
    _, made = spread
    out, back = made.counted(SPACES["g"], "fm-go"), made.counted(SPACES["g"], "fm-gb")
    assert out[1] > 100_000 > out[0], "it sends by one"
    assert back[0] > 100_000 > back[1], "and hears by the other"


def test_a_cable_that_is_cut_and_mended_is_used_again(spread):
    found, made = spread
    for down in ("down", "up"):
        made.inside(WORLD, "ip", "link", "set", "fm-wh", down)
        if down == "down":
            found.more_finals(2, 240)
            time.sleep(1.0)
    found.more_finals(2, 240, includes="h")
    found.check()
