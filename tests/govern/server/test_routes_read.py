"""What a node answers is what the state says, and can be checked by a client that has no state."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import TypeAdapter

from fedmeta.govern.client.light import LightClient, verify_record
from fedmeta.govern.engines import engine as engines
from fedmeta.govern.errors import ProofError
from fedmeta.govern.machine.genesis import decode_genesis
from fedmeta.govern.machine.header import decode_signed
from fedmeta.govern.server import explaining, models, routes_read
from fedmeta.govern.server.json import json_form
from fedmeta.govern.state.records import Member
from fedmeta.govern.views.explain import explain
from fedmeta.govern.views.queries import QUERIES, query
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.layout import LAYOUTS, key_of
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.keeping import KEPT, short_memory
from tests.govern.playing import CHAIN, RECIPE, federation
from tests.govern.server.nodes import SEQUENCER, Asked, played, replayed

PLAY = played()
SENT = PLAY.blocks[0].transactions[0]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    engine = replayed(tmp_path_factory.mktemp("asking") / "ledger.db")
    asked = Asked(engine)
    yield asked
    asked.close()
    engine.close()


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    engine = replayed(tmp_path_factory.mktemp("pruned") / "ledger.db")
    play = played()
    with short_memory():
        engine.snapshot()
        for _ in range(KEPT + 2):
            engine.produce(play.state.time, empty=True)
        engine.snapshot()
        assert engine.prune() == play.height + 1
    asked = Asked(engine)
    yield asked
    asked.close()
    engine.close()


def fits(model, value):
    """Return the value, which must fit a model of the node's description, with no field too many."""
    TypeAdapter(model).validate_python(value, strict=True)
    names = getattr(model, "model_fields", None)
    assert names is None or set(value) == set(names)
    return value


# The state


def test_the_status_is_where_the_chain_stands(node):
    said = fits(models.StatusModel, node.json("/status"))
    assert (said["chain_id"], said["height"], said["time"]) == (CHAIN, PLAY.height, PLAY.state.time)
    assert (said["term"], said["round"]) == (PLAY.chain.term, PLAY.chain.round)
    assert said["app_hash"] == PLAY.hashes[-1].hex()
    assert said["genesis"] == PLAY.genesis.digest.hex()
    assert said["sequencer"] == SEQUENCER.public.hex()
    assert (said["first_block"], said["pending"], said["fault"]) == (1, 0, "")


ARGUMENTS = {
    "member": {"name": "ann"},
    "members": {"after": "bob", "limit": 3},
    "balance": {"name": "hal"},
    "candidate": {"name": "ann"},
    "candidates": {"limit": 2},
    "term": {"number": 2},
    "round": {"number": PLAY.chain.round},
    "scores": {"number": 1},
    "fault": {"number": 1},
    "proposal": {"number": 1},
    "proposals": {"after": 0},
    "registrations": {"recipe": RECIPE.hex()},
}


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_answered_from_the_state(node, name):
    arguments = ARGUMENTS.get(name, {})
    due = query(PLAY.state, name, **{key: RECIPE if key == "recipe" else one for key, one in arguments.items()})
    assert node.json(f"/query/{name}", params=arguments) == json_form(due)


def test_what_can_be_asked_is_listed_with_its_arguments(node):
    said = fits(list[models.QueryModel], node.json("/query"))
    assert [one["name"] for one in said] == list(QUERIES)
    for one in said:
        assert one["meaning"]
        assert set(one["optional"]) <= set(one["arguments"])
        assert set(one["arguments"].values()) <= {"str", "int", "bytes"}


@pytest.mark.parametrize(
    ("url", "due"),
    [
        ("/query/proposal?number=2", (404, "not-found")),
        ("/query/registrations?recipe=xyz", (400, "bad-value")),
        ("/query/registrations", (400, "bad-value")),
        ("/query/member?name=nobody", (404, "unknown-member")),
        ("/query/nothing", (404, "not-found")),
        ("/query/member", (400, "bad-value")),
        ("/query/member?name=ann&more=1", (400, "bad-value")),
        ("/query/term?number=x", (400, "bad-value")),
        ("/query/term?number=-1", (400, "bad-value")),
        ("/query/term?number=1e3", (400, "bad-value")),
        ("/query/term?number=%C2%B2", (400, "bad-value")),
        ("/query/term?number=99999999999999999999", (400, "bad-value")),
        ("/query/members?limit=0", (400, "bad-value")),
        ("/query/members?limit=1000000", (400, "bad-value")),
        ("/sequence/nobody", (404, "unknown-member")),
        ("/explain/nobody", (404, "unknown-member")),
        ("/explain/ann?term=0", (400, "malformed")),
        ("/explain/ann?term=one", (400, "malformed")),
        ("/blocks/0", (400, "malformed")),
        ("/blocks/ten", (400, "malformed")),
        ("/blocks/9007199254740991", (404, "not-found")),
        ("/blocks/9007199254740992", (400, "malformed")),
        ("/headers/9007199254740991", (404, "not-found")),
        ("/transactions/" + "0" * 64, (404, "not-found")),
        ("/transactions/" + "A" * 64, (400, "malformed")),
        ("/transactions/00", (400, "malformed")),
        ("/proof/nothing?key=ann", (404, "not-found")),
        ("/proof/member?key=nobody", (404, "not-found")),
        ("/proof/member", (400, "bad-value")),
        ("/proof/member?key=ann&key=bob", (400, "bad-value")),
        ("/proof/round?key=one", (400, "bad-value")),
        ("/proof/recipe?key=xyz", (400, "bad-value")),
        ("/events?from_height=-1", (400, "malformed")),
        ("/events?from_height=1000", (404, "not-found")),
        ("/nothing", (404, "not-found")),
        ("/status/", (404, "not-found")),
        ("/docs", (404, "not-found")),
    ],
)
def test_a_question_without_an_answer_says_why_by_status_and_code(node, url, due):
    assert node.no(url) == due


def test_another_method_is_told_which_one_is_right(node):
    answer = node.ask("DELETE", "/status")
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "not-allowed", "GET")


@pytest.mark.parametrize("host", ["[", "a b", "node:99999999", "", "ü"])
def test_a_host_that_is_none_does_not_matter(node, host):
    for url, status in (("/status", 200), ("/nothing", 404), ("/status/", 404)):
        assert node.get(url, headers={"host": host.encode()}).status_code == status


def test_whole_numbers_beyond_53_bits_are_exact(node):
    index = query(PLAY.state, "candidate", name="ann")["reward_index"]
    assert index > 2**53
    assert b'"reward_index":%d,' % index in node.get("/query/candidate?name=ann").content


def test_the_next_sequence_number_is_that_of_the_state(node):
    for name in ("ann", "hal", "joy"):
        said = fits(models.SequenceModel, node.json(f"/sequence/{name}"))
        assert said["sequence"] == PLAY.member(name).sequence


# Blocks


def test_the_genesis_comes_whole_and_its_digest_is_that_of_its_bytes(node):
    raw = node.cbor("/genesis")
    assert decode_genesis(raw) == PLAY.genesis
    assert fits(models.GenesisModel, node.json("/genesis"))["digest"] == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("form", ["application/cbor", "application/json"])
def test_whoever_has_the_genesis_is_told_so_and_not_sent_it_again(node, form):
    answer = node.get("/genesis", headers={"accept": form})
    assert (answer.headers["cache-control"], answer.headers["vary"]) == ("no-cache", "accept")
    other = {"application/cbor": "application/json", "application/json": "application/cbor"}[form]
    mine = {"if-none-match": answer.headers["etag"]}
    again = node.get("/genesis", headers={"accept": form, **mine})
    assert (again.status_code, again.content) == (304, b"")
    assert node.get("/genesis", headers={"accept": other, **mine}).status_code == 200


def test_the_genesis_is_sent_in_pieces_that_make_the_whole(node, monkeypatch):
    whole = node.cbor("/genesis")
    monkeypatch.setattr(routes_read, "_PIECE", 100)
    assert node.cbor("/genesis") == whole
    assert node.get("/genesis").headers["content-length"] == str(len(node.get("/genesis").content))


@pytest.mark.parametrize("form", ["application/cbor", "application/json"])
def test_the_genesis_is_answered_while_a_block_is_made(node, form):
    node.get("/genesis", headers={"accept": form})
    held, answered = threading.Event(), threading.Event()

    def hold():
        with node.node.engine._lock:
            held.set()
            answered.wait(20)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        held.wait()
        assert node.get("/genesis", headers={"accept": form}).status_code == 200
        in_time = not holding.done()
        answered.set()
    assert in_time


def test_no_block_waits_while_a_genesis_is_decoded_or_a_state_is_made_of_records(node, monkeypatch):
    """As they are for an explanation."""
    free = []

    def watched(module, name):
        inner = getattr(module, name)

        def outer(*arguments):
            with ThreadPoolExecutor(1) as pool:
                free.append(pool.submit(lambda: lock.acquire(blocking=False) and not lock.release()).result())
            return inner(*arguments)

        monkeypatch.setattr(module, name, outer)

    lock = node.node.engine._lock
    watched(engines, "decode_genesis")
    watched(explaining, "_state")
    assert node.get("/explain/ann").status_code == 200
    assert free == [True, True]


@pytest.mark.parametrize(
    "url", ["/blocks/3", "/query/members", "/proof/member?key=ann", f"/transactions/{digest(SENT).hex()}"]
)
@pytest.mark.parametrize("form", ["application/cbor", "application/json"])
def test_what_may_be_large_is_not_encoded_by_the_thread_that_answers_all(node, monkeypatch, url, form):
    encode, threads = (routes_read.to_json, routes_read.codec.encode), []

    def watched(function):
        return lambda value: threads.append(threading.current_thread().name) or function(value)

    monkeypatch.setattr(routes_read, "to_json", watched(encode[0]))
    monkeypatch.setattr(routes_read.codec, "encode", watched(encode[1]))
    assert node.get(url, headers={"accept": form}).status_code == 200
    assert threads
    assert [name for name in threads if not name.startswith("ledger-reader")] == []


def test_a_light_client_follows_the_headers_from_the_genesis_on(node):
    client = LightClient.of(decode_genesis(node.cbor("/genesis")))
    for height in range(1, PLAY.height + 1):
        header = client.follow(decode_signed(node.cbor(f"/headers/{height}")))
        assert header.app_hash == PLAY.hashes[height]
        said = fits(models.HeaderModel, node.json(f"/headers/{height}"))
        assert (said["hash"], said["height"], said["time"]) == (header.hash.hex(), height, header.time)


def test_blocks_come_whole_and_fit_their_headers(node):
    for block in PLAY.blocks:
        raw, transactions = codec.decode(node.cbor(f"/blocks/{block.height}"))
        assert tuple(transactions) == block.transactions
        assert decode_signed(raw).header.transactions_root == merkle.root(transactions)
        said = fits(models.BlockModel, node.json(f"/blocks/{block.height}"))
        assert said["transactions"] == [one.hex() for one in block.transactions]
        assert said["events"] == [json_form(one) for one in PLAY.log[block.height]]


def test_every_transaction_is_found_by_its_digest_with_what_it_did(node):
    found = 0
    for block in PLAY.blocks:
        for position, raw in enumerate(block.transactions):
            said = fits(models.TransactionModel, node.json(f"/transactions/{digest(raw).hex()}"))
            signed = tx.decode(raw)
            assert (said["height"], said["position"], said["raw"]) == (block.height, position, raw.hex())
            assert (said["member"], said["sequence"], said["kind"]) == (signed.member, signed.sequence, signed.kind)
            assert said["events"][0]["kind"] == "transaction-applied"
            assert said["events"][0]["fields"]["index"] == position
            found += 1
    assert found == sum(len(block.transactions) for block in PLAY.blocks) > 30


def test_the_events_of_a_blocks_transactions_and_of_its_ending_are_all_there_are(node):
    for block in PLAY.blocks:
        told = [
            event for raw in block.transactions for event in node.json(f"/transactions/{digest(raw).hex()}")["events"]
        ]
        every = [json_form(one) for one in PLAY.log[block.height]]
        kinds = [one["kind"] for one in every]
        assert told == every[: kinds.index("block-ending")]


# Proofs


def proven(node, kind, key):
    """Return the record that a client without a state is shown."""
    shown = [one.hex() if isinstance(one, bytes) else str(one) for one in key]
    url, client = f"/proof/{kind}", LightClient.of(PLAY.genesis)
    raw, value = codec.decode(node.cbor(url, params={"key": shown}))
    record = verify_record(merkle.Proof.from_value(value), client.jump(decode_signed(raw)))
    said = fits(models.ProofModel, node.json(url, params={"key": shown}))
    path = [bytes.fromhex(one) for one in said["path"]]
    proof = merkle.Proof(bytes.fromhex(said["leaf"]), said["index"], said["size"], tuple(path))
    assert merkle.verify(proof, bytes.fromhex(said["header"]["app_hash"]))
    assert said["record"] == json_form(record)
    return record


def test_every_record_of_the_state_is_proven_to_a_client_that_has_none(node):
    for kind, found in LAYOUTS.items():
        records = PLAY.state.all(found.cls)
        assert records, kind
        for record in records[:3]:
            assert proven(node, kind, key_of(record)) == record


def test_a_proof_that_was_tampered_with_does_not_convince(node):
    raw, value = codec.decode(node.cbor("/proof/member?key=ann"))
    header = LightClient.of(PLAY.genesis).jump(decode_signed(raw))
    other = node.json("/proof/member?key=bob")["leaf"]
    with pytest.raises(ProofError):
        verify_record(merkle.Proof.from_value([bytes.fromhex(other), *value[1:]]), header)


def test_before_the_first_block_the_genesis_proves_itself(tmp_path):
    from fedmeta.govern.engines.embedded import EmbeddedEngine

    with EmbeddedEngine.create(tmp_path / "ledger.db", federation(), SEQUENCER) as engine:
        asked = Asked(engine)
        assert asked.no("/proof/member?key=ann") == (404, "not-found")
        assert asked.json("/status")["height"] == 0
        assert asked.no("/blocks/1") == (404, "not-found")
        asked.close()


# Explanations


def told():
    return [(height, 0, [(one.kind, one.fields()) for one in events]) for height, events in enumerate(PLAY.log)]


@pytest.mark.parametrize("name", ["ann", "hal", "joy"])
def test_an_explanation_has_every_line_and_its_sum_fits(node, name):
    said = fits(models.ExplanationModel, node.json(f"/explain/{name}"))
    due = explain(told(), name)
    assert (said["total"], said["terms"]) == (due.total, json_form(due.to_value()["terms"]))
    assert [one["amount"] for one in said["lines"]] == [one.amount for one in due.lines]
    assert said["check"]["holds"] is True
    assert said["check"]["after"] - said["check"]["before"] == sum(one["amount"] for one in said["lines"])


def test_an_explanation_can_be_of_one_term_and_in_words(node):
    whole, one = node.json("/explain/ann"), node.json("/explain/ann?term=1")
    assert one["term"] == 1
    assert one["lines"] == [line for line in whole["lines"] if line["term"] == 1]
    text = node.get("/explain/ann?term=1", headers={"accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain")
    assert all(str(line["amount"]).lstrip("-") in text.text.replace(",", "") for line in one["lines"])


# Pruned


def test_what_was_pruned_is_gone_and_not_merely_absent(pruned):
    first = pruned.json("/status")["first_block"]
    assert first == PLAY.height + 1
    assert pruned.no("/blocks/1") == (410, "pruned")
    assert pruned.no(f"/blocks/{first - 1}") == (410, "pruned")
    assert pruned.no("/events?from_height=0") == (410, "pruned")
    assert pruned.no("/events", headers={"last-event-id": "3"}) == (410, "pruned")
    assert pruned.get(f"/blocks/{first}").status_code == 200
    raw = PLAY.blocks[0].transactions[0]
    assert pruned.no(f"/transactions/{digest(raw).hex()}") == (404, "not-found")


def test_headers_are_never_pruned_so_that_a_light_client_can_follow(pruned):
    client = LightClient.of(PLAY.genesis)
    for height in range(1, pruned.json("/status")["height"] + 1):
        client.follow(decode_signed(pruned.cbor(f"/headers/{height}")))


def test_an_explanation_begins_at_the_snapshot_once_blocks_are_pruned(pruned):
    said = pruned.json("/explain/hal")
    assert said["first"] == PLAY.height + 1
    assert said["check"]["holds"] is True


def test_an_explanation_whose_snapshot_goes_meanwhile_asks_to_come_again(pruned, monkeypatch):
    monkeypatch.setattr(pruned.node.engine, "snapshots", list)
    answer = pruned.get("/explain/hal")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert int(answer.headers["retry-after"]) >= 1


def test_the_key_that_is_in_force_is_told_also_after_a_rotation(node):
    assert node.json("/query/member?name=ann")["public"] == PLAY.key("ann").public.hex()
    assert proven(node, "member", ("ann",)).keys == PLAY.state.need(Member, "ann").keys
