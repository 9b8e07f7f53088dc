"""Ledgers whose super nodes decide the blocks, in real processes: killed, replaced, misled and flooded."""

import contextlib
import random
import shutil
import signal
import socket
import time
from collections import Counter

import pytest

from fedmeta.govern.client.follower import Follower
from fedmeta.govern.errors import Refused
from fedmeta.govern.state.records import Fault, Round
from fedmeta.govern.views.invariants import check_invariants
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import digest
from tests.examples import TIMES, in_soak
from tests.govern.cometbft.ledgers import Ledgers
from tests.govern.cometbft.misleading import attack, show
from tests.govern.cometbft.network import needs_cometbft
from tests.govern.cometbft.outside import Load, agree, nothing_lost
from tests.govern.playing import Play, consensus_key, federation, first_consensus_key, key
from tests.waiting import until

pytestmark = needs_cometbft

QUICK = {"patience": {"look": 0.5, "still": 6}, "block_interval": 100, "empty_interval": 500}
FOUR = dict.fromkeys(("ann", "bob", "cat", "dan"), 3_000)


def quiet(**options):
    """Return a genesis without rounds, whose members can send as many transactions as they like."""
    return federation(validators=True, contributors=(), free=10**9, **options)


def alone(**options):
    return quiet(stakes={"ann": 3_000}, delegations=(("hal", "ann", 100),), members=("ivy", "joy"), **options)


# Kills


def test_one_validator_that_is_killed_five_times_loses_nothing_and_does_nothing_twice():
    with Ledgers(alone(), **QUICK) as network:
        network.start()
        network.wait(1)
        with Load(network, [0], candidates=["ann"]) as load:
            for kill in range(5):
                load.further(6)
                if kill in (1, 3):
                    network[0].kill()
                    network[0].start()
                else:
                    network[0].kill_engine()
            load.further(6)
        network.wait_further(2)
        nothing_lost(agree(network)[0], load)


@in_soak
def test_whatever_part_of_a_validator_is_killed_nothing_that_was_acknowledged_is_lost():
    """Its whole process, of which CometBFT is a child, or CometBFT alone."""
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
            network[1].signal(signal.SIGSTOP)
            until(lambda: "is the last one" in network.status(2)["fault"])
            stood = network[2].height
            assert network[3].height == stood
            network[1].signal(signal.SIGCONT)
            load.further(10)
            until(lambda: not network.status(2)["fault"])
            network[0].start()
            # One that is paused holds nobody up.
            network[3].signal_engine(signal.SIGSTOP)
            load.further(10)
            network[3].signal_engine(signal.SIGCONT)
        network.wait_further(3)
        nothing_lost(agree(network)[0], load)


@in_soak
def test_a_validator_that_lost_its_ledger_or_all_but_its_signing_state_comes_back_by_itself():
    with Ledgers(quiet(), **QUICK) as network:
        network.start()
        network.wait(2)
        with Load(network, range(2)) as load:
            for number in (2, 3):
                load.further(10)
                network[number].stop()
                for path in network[number].folder.glob("ledger.db*"):
                    path.unlink()
            for path in (network[3].home.folder / "data").iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != "priv_validator_state.json":
                    path.unlink()
            network.start([2, 3])
            network.wait_further(3)
            load.further(10)
        network.wait_further(2)
        nothing_lost(agree(network)[0], load)


@in_soak
def test_a_hundred_kills_lose_nothing():
    draw = random.Random(TIMES)
    with Ledgers(quiet(), **QUICK) as network:
        network.start()
        network.wait(2)
        with Load(network, range(4)) as load:
            for _ in range(100):
                load.further(draw.randint(1, 6))
                node = network[draw.randrange(4)]
                if draw.random() < 0.5:
                    node.kill_engine()
                else:
                    node.kill()
                    node.start()
                time.sleep(draw.random() / 2)
            load.further(20)
        network.wait_further(3)
        nothing_lost(agree(network)[0], load)


# Whatever members do


class Members:
    """Members that play rounds and move stakes at random, by what they have followed, and are refused now and then."""

    def __init__(self, network, draw):
        self.draw, self.play, self.follower = draw, Play(network.ledger), Follower(network.ledger)
        names = [one.name for one in network.ledger.members]
        self.clients = {name: network.client(at % 4, name, timeout=20) for at, name in enumerate(names)}
        self.candidates = [one.member for one in network.ledger.candidates]
        self.sent, self.done = Counter(), set()

    def close(self):
        for one in self.clients.values():
            one.close()

    def turn(self):
        """Follow the chain, and let somebody do something."""
        reader = self.draw.choice(list(self.clients.values()))
        while (block := reader.encoded_block(self.follower.height + 1)) is not None:
            self.follower.apply(block)
        self.play.state = self.follower.state
        for name, body in [*self.of_round(), self.of_stake()]:
            try:
                self.clients[name].send(body, wait=False)
            except Refused as refusal:
                self.sent[refusal.code] += 1
            else:
                self.sent[tx.kind_of(body)] += 1

    def of_stake(self):
        name, candidate = self.draw.choice(list(self.clients)), self.draw.choice(self.candidates)
        amount = self.draw.choice((1, 50, 2_000, 10**12))
        other = self.draw.choice([one for one in self.candidates if one != candidate])
        bodies = [tx.Delegate(candidate, amount), tx.Undelegate(candidate, amount), tx.Claim(), tx.Bond(amount)]
        return name, self.draw.choice([*bodies, tx.Redelegate(candidate, other, amount)])

    def of_round(self):
        """Return what is due in the present phase, once: now and then another result than the honest one."""
        play, latest = self.play, self.play.latest if self.play.chain.round else None
        if latest is None or (now := (latest.number, latest.attempt, latest.phase)) in self.done:
            return []
        self.done.add(now)
        seats = play.super_nodes()
        if latest.phase == "commit":
            return [play.update(one.member) for one in latest.cohort]
        if latest.phase == "deliver":
            return [play.hold(name) for name in seats]
        if latest.phase == "compute":
            liar = self.draw.choice(seats) if self.draw.random() < 0.3 else ""
            lie = digest(b"another result")
            self.openings = {name: play.opening(name, lie if name == liar else None) for name in seats}
            return [play.attestation(*one) for one in self.openings.items()]
        return list(self.openings.items()) if latest.phase == "reveal" else []


@in_soak
def test_a_random_history_of_rounds_and_stakes_is_the_same_for_everybody():
    draw = random.Random(7 * TIMES)
    with Ledgers(federation(stakes=FOUR, validators=True, standbys=0), **QUICK) as network:
        network.start()
        network.wait(2)
        members = Members(network, draw)
        with contextlib.closing(members):
            until(lambda: members.turn() or members.play.chain.round > 3, 300)
        network.wait_further(3)
        _, follower = agree(network)
        check_invariants(follower.state)
        assert [one.phase for one in follower.state.all(Round)].count("final") >= 2
        assert {"hold", "attest", "reveal", "delegate", "insufficient-funds"} <= set(members.sent)


# Who decides


@in_soak
def test_a_validator_that_runs_twice_is_slashed_once_and_barred_and_the_others_go_on():
    genesis = quiet(stakes=FOUR, delegations=(("hal", "dan", 1_000),), members=("ivy", "joy"), standbys=0)
    with Ledgers(genesis, others=[("dan", 0)], **QUICK) as network:
        twice = network.names.index("dan")
        honest = [number for number, name in enumerate(network.names) if name != "dan"]
        network.start()
        network.wait(2, honest)
        with Load(network, honest, candidates=["ann"]) as load, network.client(honest[0], "hal") as client:
            until(lambda: client.query("candidate", name="dan")["tombstoned"])
            load.further(20)
            told = client.explain_text("hal")
            assert client.query("candidate", name="dan")["tombstoned"]
        network.wait_further(5, honest)
        views, follower = agree(network, honest)
        nothing_lost(views, load)
        (fault,) = follower.state.all(Fault)
        assert (fault.offender, fault.kind) == ("dan", "double-signature")
        # A tenth of its own stake and of that of whoever delegated to it, all of which is in its pool.
        assert [(cut.place, cut.amount) for cut in fault.cuts] == [("pool", 400)]
        assert "dan" in told
        key_of_dan = first_consensus_key("dan").public
        assert key_of_dan in views[0].validators
        assert key_of_dan not in views[-1].validators
        assert network[twice].number == twice


@in_soak
def test_validators_who_sign_a_header_to_mislead_light_clients_are_slashed_and_barred_for_that():
    genesis = quiet(stakes=FOUR, delegations=(("hal", "dan", 1_000),), members=("ivy", "joy"), standbys=0)
    with Ledgers(genesis, **QUICK) as network:
        liars = [first_consensus_key(name) for name in ("cat", "dan")]
        network.start()
        network.wait(8)
        with Load(network, range(4), candidates=["ann"]) as load, network.client(0, "hal") as client:
            show(network[0], attack(network[0], 7, 5, liars))
            until(lambda: all(client.query("candidate", name=name)["tombstoned"] for name in ("cat", "dan")))
            load.further(20)
            told = client.explain_text("hal")
        network.wait_further(3)
        views, follower = agree(network)
        nothing_lost(views, load)
        found = {one.offender: (one.kind, one.infraction) for one in follower.state.all(Fault)}
        # CometBFT names the last height that both chains share: there they had the power that they used.
        assert found == dict.fromkeys(("cat", "dan"), ("light-client-attack", 5))
        cuts = {one.offender: [cut.amount for cut in one.cuts] for one in follower.state.all(Fault)}
        assert cuts == {"cat": [300], "dan": [400]}
        assert "of dan (light-client-attack): the pool lost 400" in told
        assert views[-1].validators.keys() == {first_consensus_key(name).public for name in ("ann", "bob")}


@in_soak
def test_an_election_under_load_replaces_all_four_and_misses_no_height():
    stakes = {
        **dict.fromkeys(("ann", "bob", "cat", "dan"), 3_000),
        **dict.fromkeys(("eve", "fay", "gil", "kai"), 2_000),
    }
    genesis = quiet(
        stakes=stakes, delegations=(("hal", "ann", 10),), members=("ivy", "joy", "lee"), term_length=10, standbys=4
    )
    later = ["eve", "fay", "gil", "kai"]
    with Ledgers(genesis, others=[(name, 0) for name in later], **QUICK) as network:
        assert sorted(network.names[:4]) == ["ann", "bob", "cat", "dan"]
        network.start()
        network.wait(2)
        due = {first_consensus_key(name).public for name in later}
        with Load(network, range(8), candidates=["ann"]) as load, network.client(4, "lee") as client:
            for name in later:
                client.send(tx.Delegate(name, 15_000))
            until(lambda: {bytes.fromhex(one["public"]) for one in client.query("validators")} == due)
            load.further(20)
        network.wait_further(3)
        views, _ = agree(network)
        nothing_lost(views, load)
        assert {frozenset(one.validators) for one in views} >= {frozenset(due)}
        # Those who had the seats are needed no more.
        for number in range(4):
            network[number].stop()
        network.wait_further(3, range(4, 8))


@in_soak
def test_a_validator_that_is_away_for_long_loses_its_seat_and_no_stake():
    five = {**FOUR, "eve": 3_000}
    rules = {"signing_blocks": 10, "duty_window": 4, "duty_misses": 2, "super_nodes": 5, "standbys": 0}
    rules |= {f"{phase}_blocks": 20 for phase in ("commit", "deliver", "compute", "reveal")}
    genesis = quiet(stakes=five, delegations=(("hal", "ann", 10),), **rules)
    with Ledgers(genesis, **QUICK) as network:
        away = network.names.index("eve")
        others = [number for number in range(5) if number != away]
        network.start()
        network.wait(2)
        network[away].kill()
        with network.client(others[0], timeout=20) as client:
            until(lambda: client.query("candidate", name="eve")["jailed"])
            found = client.query("candidate", name="eve")
            assert (found["absent"], found["tokens"]) == (True, 3_000)
            assert "eve" not in {one["candidate"] for one in client.query("validators")}
        network.wait_further(3, others)
        network[away].start()
        network.wait_further(3)
        views, follower = agree(network)
        assert [len(one.validators) for one in (views[0], views[-1])] == [5, 4]
        assert not follower.state.all(Fault)


@in_soak
def test_a_validator_whose_machine_is_lost_goes_on_by_a_new_key_on_another_one():
    with Ledgers(quiet(stakes=FOUR, standbys=0), others=[("dan", 1)], **QUICK) as network:
        lost = network.names.index("dan")
        others = [number for number in range(4) if number != lost]
        network.start()
        network.wait(2)
        network[lost].kill()
        with network.client(others[0], "dan") as client:
            client.send(consensus_key("dan", network.ledger, 1))
        new = key("dan's consensus 1").public
        network.wait_further(4, [*others, 4])
        # Three are needed, and it is one of them.
        network[others[1]].kill()
        left = [others[0], others[2], 4]
        network.wait_further(4, left)
        views, _ = agree(network, left)
        assert new in views[-1].validators
        assert key("dan's consensus 0").public not in views[-1].validators


# Nodes that are not as they should be


@in_soak
def test_a_node_whose_application_lies_stops_and_says_so_and_the_others_go_on():
    with Ledgers(quiet(), acting={3: "lies"}, **QUICK) as network:
        network.start()
        network.wait(2)
        with Load(network, range(3)) as load:
            until(lambda: "takes part no more" in network.status(3)["fault"])
            load.further(20)
        network.wait_further(3, range(3))
        nothing_lost(agree(network, range(3))[0], load)


@in_soak
@pytest.mark.parametrize("how", ["refuses", "proposes"])
def test_a_node_whose_application_votes_or_proposes_wrongly_holds_nobody_up_for_long(how):
    with Ledgers(quiet(), acting={3: how}, **QUICK) as network:
        network.start()
        network.wait(2)
        with Load(network, range(3)) as load:
            load.further(40)
            # It decides nothing alone, but it executes what the others decide.
            network.wait_further(6)
        network.wait_further(3)
        views, _ = agree(network)
        nothing_lost(views, load)
        assert (network[3].folder / "acted").exists()
        assert not [raw for one in views for raw in one.items if raw == b"junk"]


@in_soak
def test_floods_and_nonsense_past_a_node_s_http_come_into_no_block():
    genesis = quiet(member_transactions=5)
    with Ledgers(genesis, **QUICK) as network:
        network.start()
        network.wait(2)
        node, draw = network[0], random.Random(1)
        flood = [tx.sign(key("hal"), genesis.digest, "hal", at, tx.Delegate("ann", 1)) for at in range(60)]
        with node.rpc() as rpc, Load(network, range(4), members=("ivy", "joy")) as load:
            codes = [rpc.broadcast_tx_sync(raw).codespace for raw in flood]
            assert set(codes) <= {"", "limit-reached", "future-sequence"}
            assert "limit-reached" in codes
            for raw in (b"", b"\0", b"junk", draw.randbytes(60_000), flood[0][:-1], flood[0] + b"\0"):
                assert rpc.broadcast_tx_sync(raw).code == 1
            foreign = tx.sign(key("hal"), digest(b"another"), "hal", 0, tx.Claim())
            assert rpc.broadcast_tx_sync(foreign).codespace == "wrong-chain"
            for raw in (draw.randbytes(100), b"\xff" * 100, b"\x05hello", b"POST / HTTP/1.1\r\n\r\n"):
                for path in (node.home.application, node.home.rpc):
                    with socket.socket(socket.AF_UNIX) as peer:
                        peer.settimeout(5)
                        peer.connect(str(path))
                        peer.sendall(raw)
            load.further(20)
        network.wait_further(3)
        views, _ = agree(network)
        nothing_lost(views, load)
        for height, one in enumerate(views, 1):
            names = [tx.decode(raw).member for raw in Block.of(height, 0, one.items).transactions]
            assert max(map(names.count, names), default=0) <= 5
