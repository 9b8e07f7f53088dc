"""The way to the ledger: what anyone on it can make up ends nothing, what the sequencer signs and cannot be does."""

import threading
import time

import pytest

from fedmeta.govern.client.client import Client
from fedmeta.govern.machine.header import Header, encode_signed, sign_header
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire.signatures import Key
from fedmeta.node.member import config as configs
from fedmeta.node.process import ledger as ledgers
from fedmeta.node.process.ledger import Ledger
from fedmeta.node.simulated.ledger import TIME, genesis_of, key_of
from tests.node.member.made import content

SEATS = ("s0", "s1", "s2", "s3")
GENESIS = genesis_of(SEATS, SEATS, bytes(32))
ADDRESSES = ("http://127.0.0.1:1", "http://127.0.0.1:2")


SEQUENCER = key_of("sequencer")


def block(height=1, previous=b"p" * 32, transactions=(), said=(), key=SEQUENCER):
    """Return a block as a server gives it, whose header says that it has the transactions in `said`."""
    root = merkle.root(list(said))
    header = Header(GENESIS.digest, height, TIME + height, previous, root, merkle.root([]), bytes(32))
    return codec.encode([encode_signed(sign_header(key, header)), list(transactions)])


class Server(Client):
    """A client of a ledger's server whose answers the test gives."""

    def __init__(self, node, blocks):
        self.node, self._blocks = node, blocks

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def close(self):
        pass

    def genesis(self):
        return GENESIS

    def status(self):
        return {"height": 1}

    def encoded_block(self, height):
        found = self._blocks(self.node)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Give a function that follows servers until something holds, and returns what was said to be impossible."""
    running = []

    def begin(blocks, until):
        asked, failed = [], []

        def first(config, key=None, *, timeout, turn=0):
            asked.append(ADDRESSES[turn % len(ADDRESSES)])
            return Server(asked[-1], blocks)

        monkeypatch.setattr(ledgers.reaching, "first", first)
        config = configs.of(content(ledger__addresses=list(ADDRESSES)), tmp_path)
        found = Ledger(config, Key.generate(), tmp_path, lambda view: None, failed.append)
        running.append(found)
        found.start()
        end = time.monotonic() + 30
        while not until(asked, failed):
            assert time.monotonic() < end, (asked, failed, found.trouble)
            time.sleep(0.01)
        return failed, found

    monkeypatch.setattr(ledgers, "POLL", 0.01)
    yield begin
    for one in running:
        one.stop()
        for thread in one._threads:
            thread.join(30)
            assert not thread.is_alive()


MADE_UP = {
    "no block": b"what a proxy says",
    "another key": block(key=key_of("s0")),
    "another height": block(height=7),
    "other transactions": block(transactions=[b"x"]),
    "no bytes": block(transactions=[3]),
}


@pytest.mark.parametrize("name", MADE_UP)
def test_what_nobody_has_signed_makes_it_ask_at_another_address(name, follow):
    failed, found = follow(lambda node: MADE_UP[name], lambda asked, failed: set(asked) == set(ADDRESSES))
    assert not failed
    assert "what nobody has signed" in found.trouble


def test_what_the_sequencer_has_signed_and_cannot_be_is_said(follow):
    failed, _ = follow(lambda node: block(), lambda asked, failed: failed)
    assert "what cannot be" in failed[0]


@pytest.mark.parametrize("error", [KeyError("height"), OSError("the disk is full")])
def test_what_nobody_has_foreseen_does_not_make_it_blind(error, follow):
    failed, found = follow(lambda node: error, lambda asked, failed: len(asked) > 1)
    assert not failed
    assert type(error).__name__ in found.trouble


def test_an_address_that_gives_no_new_block_gives_way_to_another(follow, monkeypatch):
    monkeypatch.setattr(ledgers, "STALE", 0.1)
    failed, _ = follow(lambda node: None, lambda asked, failed: set(asked) == set(ADDRESSES))
    assert not failed


def test_what_was_taken_and_is_sent_again_goes_to_another_address(follow, monkeypatch):
    sent, taken = [], threading.Semaphore(0)

    def submit(self, raw, *, wait):
        sent.append(self.node)

    monkeypatch.setattr(Server, "sign", lambda self, body: b"signed", raising=False)
    monkeypatch.setattr(Server, "submit", submit)
    _, found = follow(lambda node: None, lambda asked, failed: asked)
    for body in ("one", "another", "one", "another"):
        found.submit(body, lambda raw, address: None, lambda error: taken.release())
        assert taken.acquire(timeout=30)
    # The third is the first once more; what was taken by the other address is not counted against this one.
    assert sent == [ADDRESSES[0], ADDRESSES[0], ADDRESSES[1], ADDRESSES[1]]
