"""A transaction is taken, refused or put off with a clear answer, and done once however often it is sent."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedmeta.govern.engines import embedded
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import StoreError
from fedmeta.govern.server import Limits
from fedmeta.govern.server.models import OutcomeModel, WaitingModel
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import Play, federation, key
from tests.govern.server.nodes import GENESIS, live, refused, sign
from tests.waiting import PATIENCE, until


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with live(tmp_path_factory.mktemp("sending") / "ledger.db") as made:
        yield made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


def sequence(node, name):
    with node.http() as client:
        return client.get(f"/sequence/{name}").json()["sequence"]


def next_of(node, name, body=None):
    return sign(name, sequence(node, name), body)


def staked(node, name="hal", candidate="ann"):
    bonded = node.engine.query("balance", {"name": name})["bonded"]
    return sum(one["value"] for one in bonded if one["candidate"] == candidate)


# Taken


def test_the_answer_comes_once_the_block_is_on_the_disk_and_says_what_was_done(node):
    raw = next_of(node, "hal", tx.Delegate("ann", 7))
    answer = node.send(raw)
    assert answer.status_code == 200
    said = answer.json()
    OutcomeModel.model_validate(said, strict=True)
    with Store.read(node.engine.path) as store:
        assert store.place(digest(raw))[:2] == (said["height"], said["position"])
    assert said["digest"] == digest(raw).hex()
    assert [one["kind"] for one in said["events"]] == ["transaction-applied", "staked"]
    assert said["events"][1]["fields"]["amount"] == 7


def test_each_of_many_in_one_block_is_answered_with_its_own_events(path):
    with live(path) as node, ThreadPoolExecutor(8) as pool:
        node.hold(lambda: node.node.waiting == 7)
        raws = [sign(name, 0, tx.Delegate("ann", 1)) for name in ("hal", "ivy", "joy", "bob", "cat", "dan", "eve")]
        answers = [one.json() for one in pool.map(node.send, raws)]
        assert [one["digest"] for one in answers] == [digest(raw).hex() for raw in raws]
        for raw, said in zip(raws, answers, strict=True):
            assert node.engine.block(said["height"]).transactions[said["position"]] == raw
            assert {one["fields"]["index"] for one in said["events"] if "index" in one["fields"]} == {said["position"]}
            assert {one["fields"]["member"] for one in said["events"] if one["kind"] == "staked"} == {
                tx.decode(raw).member
            }
        assert {one["height"] for one in answers} == {1}


def test_without_waiting_the_answer_is_that_it_waits(node):
    raw = next_of(node, "ivy")
    answer = node.send(raw, params={"wait": "false"})
    assert answer.status_code == 202
    WaitingModel.model_validate(answer.json(), strict=True)
    assert answer.json() == {"digest": digest(raw).hex()}
    until(lambda: node.engine.transaction(digest(raw)))


def test_whoever_has_waited_too_long_is_told_that_it_still_waits(path):
    with live(path, Limits(wait_seconds=0), block_interval=3600.0) as node:
        raw = sign("hal", 0)
        answer = node.send(raw)
        assert (answer.status_code, answer.json()) == (202, {"digest": digest(raw).hex()})
        assert sequence(node, "hal") == 1
    with Store.read(path) as store:
        assert store.place(digest(raw)) == (1, 0, "")


def test_those_that_wait_are_limited_and_the_others_are_told_at_once(path):
    with live(path, Limits(waiting=0), block_interval=3600.0) as node:
        assert node.send(sign("hal", 0)).status_code == 202


@pytest.mark.parametrize("kind", ["application/cbor", "application/octet-stream", "APPLICATION/CBOR; charset=x", None])
def test_a_transaction_is_cbor_or_just_bytes(node, kind):
    headers = {} if kind is None else {"content-type": kind}
    assert node.send(next_of(node, "joy"), headers=headers).status_code == 200


def test_a_body_that_comes_in_pieces_is_one_transaction(node):
    raw = next_of(node, "joy")
    pieces = (raw[at : at + 7] for at in range(0, len(raw), 7))
    assert node.send(pieces).status_code == 200


# Once


def test_the_same_bytes_again_give_the_same_answer_and_are_done_once(node):
    before, raw = staked(node), next_of(node, "hal", tx.Delegate("ann", 11))
    first, second = node.send(raw), node.send(raw)
    assert second.status_code == 200
    assert first.json() == second.json()
    assert staked(node) == before + 11


def test_the_same_bytes_at_once_are_done_once_and_all_are_told(path):
    with live(path) as node, ThreadPoolExecutor(8) as pool:
        node.hold(lambda: node.node.waiting == 8)
        before = staked(node)
        answers = list(pool.map(node.send, [sign("hal", 0, tx.Delegate("ann", 11))] * 8))
        assert [one.status_code for one in answers] == [200] * 8
        assert len({one.text for one in answers}) == 1
        assert staked(node) == before + 11


def test_bytes_that_wait_are_told_to_wait_also_when_sent_again(path):
    with live(path, block_interval=3600.0) as node:
        first, second = (node.send(sign("hal", 0), params={"wait": "false"}) for _ in range(2))
        assert (first.status_code, second.status_code) == (202, 202)
        assert node.engine.pending == 1


def test_whoever_sends_again_while_the_block_is_made_is_never_told_that_it_was_not_taken(path, monkeypatch):
    """Or it would sign anew, and do it twice: what leaves the pool while one looks must be found in the block."""
    with live(path) as node:
        raw, lookup, looked = sign("hal", 0), node.engine.transaction, threading.Event()
        node.hold(lambda: node.node.waiting or looked.is_set())
        assert node.send(raw, params={"wait": "false"}).status_code == 202

        def slow(name):
            found = lookup(name)
            looked.set()
            until(lambda: not node.node.receipts)
            return found

        monkeypatch.setattr(node.engine, "transaction", slow)
        assert node.send(raw).status_code == 200


def test_what_was_done_is_answered_so_also_for_a_member_that_has_left_by_it(path):
    genesis = federation(members=("kim",))
    with live(path, genesis=genesis) as node:
        raw = sign("kim", 0, tx.Leave(), genesis.digest)
        first, second = node.send(raw), node.send(raw)
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.json() == second.json()
        assert refused(node.send(sign("kim", 1, tx.Claim(), genesis.digest))) == (422, "not-active")


def test_what_was_done_is_answered_so_also_when_no_more_can_be_taken(path, monkeypatch):
    with live(path) as node:
        raw = sign("hal", 0)
        first = node.send(raw)
        monkeypatch.setattr(embedded, "POOL_COUNT", 0)
        assert node.send(raw).json() == first.json()


def part_of_a_round(node, name="hal"):
    """Return a member's commitment in the first round, which the first block of a node begins."""
    if not node.engine.height:
        assert node.send(next_of(node, "ivy")).status_code == 200
    play = Play()
    play.wait()
    return play.sign(*play.update(name))


def test_a_part_of_a_round_has_no_number_and_is_done_once_however_often_it_is_sent(path):
    with live(path) as node, ThreadPoolExecutor(8) as pool:
        raw = part_of_a_round(node)
        node.hold(lambda: node.node.waiting == 8)
        answers = list(pool.map(node.send, [raw] * 8))
        node.hold(lambda: True)
        answers += [node.send(raw), node.send(raw)]
        assert [one.status_code for one in answers] == [200] * 10
        assert len({one.text for one in answers}) == 1
        assert [one["kind"] for one in answers[0].json()["events"]] == ["transaction-applied", "update-committed"]


def test_a_part_of_a_round_that_waits_takes_no_number_from_the_member_s_others(path):
    with live(path) as node:
        raw = part_of_a_round(node)
        node.hold(lambda: False)
        assert node.send(raw, params={"wait": "false"}).status_code == 202
        assert sequence(node, "hal") == 0
        assert node.send(sign("hal", 0), params={"wait": "false"}).status_code == 202
        assert sequence(node, "hal") == 1
        node.hold(lambda: True)
        until(lambda: node.engine.transaction(digest(raw)) and node.engine.transaction(digest(sign("hal", 0))))
        assert sequence(node, "hal") == 1


# Refused


def test_what_the_rules_refuse_comes_with_its_code_and_changes_nothing(node):
    before = sequence(node, "bob")
    answer = node.send(next_of(node, "bob", tx.Delegate("ann", 10**9)))
    assert refused(answer) == (422, "insufficient-funds")
    assert "1000000000" in answer.json()["message"]
    assert sequence(node, "bob") == before


@pytest.mark.parametrize(
    ("raw", "due"),
    [
        (sign("hal", 10**6), (422, "future-sequence")),
        (sign("cat", 0, genesis=federation(free=1).digest), (422, "wrong-chain")),
        (tx.sign(key("ann"), GENESIS, "cat", 0, tx.Claim()), (422, "bad-signature")),
        (sign("nobody", 0), (422, "unknown-member")),
        (sign("cat", 0, tx.Delegate("ann", 0)), (422, "bad-amount")),
        (sign("cat", 0, tx.Delegate("An Ann", 1)), (422, "bad-value")),
        (b"", (400, "malformed")),
        (b"\x00", (400, "malformed")),
        (b"\xff" * 1000, (400, "malformed")),
        (b"\x81" * 60_000, (400, "malformed")),
        (sign("cat", 0) + b"\x00", (400, "malformed")),
        (b"{}", (400, "malformed")),
        (b"\x00" * 65_537, (413, "too-large")),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value[1],
)
def test_what_cannot_be_a_transaction_is_refused_at_the_door(node, raw, due):
    assert refused(node.send(raw)) == due
    assert refused(node.send(raw, params={"wait": "false"})) == due


def test_an_old_number_with_other_bytes_is_a_replay(node):
    node.send(next_of(node, "dan"))
    assert refused(node.send(sign("dan", 0, tx.Delegate("bob", 2)))) == (422, "stale-sequence")


def test_a_size_that_the_parameters_do_not_allow_is_too_large(path):
    with live(path, genesis=federation(max_transaction_bytes=40_960)) as node:
        assert refused(node.send(sign("hal", 0, tx.Propose("", {"kind": "x" * 41_000})))) == (413, "too-large")


def test_a_body_that_is_too_large_is_not_read_however_it_is_framed(path):
    with live(path, Limits(body_bytes=100)) as node:
        assert refused(node.send(b"x" * 101)) == (413, "too-large")
        assert refused(node.send(b"x" * 50 for _ in range(100))) == (413, "too-large")


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "cbor"])
def test_another_content_type_is_refused(node, kind):
    answer = node.send(next_of(node, "eve"), headers={"content-type": kind})
    assert refused(answer) == (415, "malformed")
    assert kind in answer.json()["message"]


def test_wait_is_true_or_false(node):
    assert refused(node.send(b"", params={"wait": "perhaps"})) == (400, "malformed")


def test_a_body_that_comes_too_slowly_is_not_waited_for(path):
    with live(path, Limits(body_seconds=1)) as node, socket.create_connection(("127.0.0.1", node.port)) as wire:
        wire.settimeout(PATIENCE)
        wire.sendall(b"POST /transactions HTTP/1.1\r\nhost: node\r\ncontent-length: 100\r\n\r\nx")
        assert wire.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_body_that_breaks_off_does_no_harm(node, capfd):
    state = node.server.server_state
    until(lambda: not state.tasks)
    with socket.create_connection(("127.0.0.1", node.port)) as wire:
        wire.sendall(b"POST /transactions HTTP/1.1\r\nhost: node\r\ncontent-length: 100\r\n\r\nx")
        until(lambda: state.tasks)
    until(lambda: not state.tasks)
    assert node.send(next_of(node, "fay")).status_code == 200
    assert capfd.readouterr().err == ""


# Busy


def test_a_full_pool_asks_to_come_again(path, monkeypatch):
    monkeypatch.setattr(embedded, "POOL_COUNT", 2)
    with live(path, block_interval=3600.0) as node:
        for at in range(2):
            assert node.send(sign("hal", at), params={"wait": "false"}).status_code == 202
        answer = node.send(sign("hal", 2))
        assert refused(answer) == (503, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert sequence(node, "hal") == 2


@pytest.mark.usefixtures("still")
def test_a_member_that_sends_too_much_is_asked_to_wait_and_the_others_are_not(path):
    with live(path, Limits(member_rate=1, member_burst=3), block_interval=3600.0) as node:
        send = lambda name, at: node.send(sign(name, at), params={"wait": "false"})  # noqa: E731
        assert [send("hal", at).status_code for at in range(3)] == [202] * 3
        answer = send("hal", 3)
        assert refused(answer) == (429, "too-many-requests")
        assert int(answer.headers["retry-after"]) >= 1
        assert send("ivy", 0).status_code == 202


def test_nobody_can_use_up_the_share_of_another_member(path):
    with live(path, Limits(member_rate=1, member_burst=3)) as node:
        forged = tx.sign(key("ivy"), GENESIS, "hal", 0, tx.Claim())
        for _ in range(10):
            assert refused(node.send(forged)) == (422, "bad-signature")
        assert node.send(sign("hal", 0)).status_code == 200


@pytest.mark.usefixtures("still")
def test_those_that_come_at_once_count_all(path, monkeypatch):
    with (
        live(path, Limits(member_rate=1, member_burst=3), block_interval=3600.0) as node,
        ThreadPoolExecutor(8) as pool,
    ):
        submit, members, gate, looks = node.engine.submit, node.app.state.members, threading.Event(), []
        missing = members.missing
        monkeypatch.setattr(members, "missing", lambda name: (missing(name), looks.append(name))[0])
        monkeypatch.setattr(node.engine, "submit", lambda raw: (gate.wait(PATIENCE), submit(raw))[1])
        answers = []
        for at in range(8):
            answers.append(pool.submit(node.send, sign("hal", at), params={"wait": "false"}))
            until(lambda: len(looks) == len(answers))
        gate.set()
        assert [one.result(PATIENCE).status_code for one in answers] == [202] * 8
        answer = node.send(sign("hal", 8))
        assert refused(answer) == (429, "too-many-requests")
        assert int(answer.headers["retry-after"]) == 8 - 3 + 1


def test_while_nothing_can_be_written_all_waits_and_then_it_is_done(path, monkeypatch):
    with live(path) as node:
        produce, full = node.engine.produce, threading.Event()

        def failing(*arguments):
            if not full.is_set():
                raise StoreError("the disk is full")
            return produce(*arguments)

        monkeypatch.setattr(node.engine, "produce", failing)
        with ThreadPoolExecutor(1) as pool, node.http() as client:
            answer = pool.submit(node.send, sign("hal", 0))
            until(lambda: client.get("/status").json()["fault"] == "the disk is full")
            assert not answer.done()
            full.set()
            assert answer.result(PATIENCE).status_code == 200
            until(lambda: client.get("/status").json()["fault"] == "")
        assert staked(node) == 1_001


def test_a_block_is_announced_also_where_its_snapshot_cannot_be_kept(path, monkeypatch):
    with live(path, snapshot_every=1) as node:
        monkeypatch.setattr(node.engine, "snapshot", lambda: (_ for _ in ()).throw(StoreError("the disk is full")))
        assert node.send(sign("hal", 0)).status_code == 200
        with node.http() as client, client.stream("GET", "/events?from_height=2") as stream:
            lines = stream.iter_lines()
            assert node.send(sign("hal", 1)).status_code == 200
            assert next(line for line in lines if line.startswith("id: ")) == "id: 2"
