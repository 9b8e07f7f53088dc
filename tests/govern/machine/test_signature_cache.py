"""What is remembered of transactions: only what was signed, and only so many bytes."""

import gc
import importlib
import tracemalloc

import pytest

from fedmeta.govern.errors import Malformed, Refused
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.machine.signature_cache import SignatureCache
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from tests.govern.playing import Play, federation, key

GENESIS = federation().digest
EXECUTE = importlib.import_module("fedmeta.govern.machine.execute")
"""The module: the name in the package is the function."""


def signed(name, sequence=0, body=None, by=None):
    return tx.sign(key(by or name), GENESIS, name, sequence, body or tx.Delegate("ann", 1))


@pytest.fixture
def seen(monkeypatch):
    """What is remembered, from nothing on."""
    fresh = SignatureCache()
    monkeypatch.setattr(EXECUTE, "_seen", fresh)
    return fresh


def begin():
    return Application(start(federation()).state)


def test_a_signed_transaction_is_decoded_and_checked_once_for_the_pool_and_the_block(seen, monkeypatch):
    app, raw, checked = begin(), signed("hal"), []
    plain = EXECUTE.verify
    monkeypatch.setattr(EXECUTE, "verify", lambda *arguments: checked.append(1) or plain(*arguments))
    assert app.check_tx(raw) is None
    found, public = seen.get(raw)
    assert (found, public) == (tx.decode(raw), key("hal").public)
    play = Play()
    play.run(raw)
    assert play.member("hal").sequence == 1
    assert len(checked) == 1


def test_a_signature_that_was_right_by_another_key_is_checked_again(seen):
    raw = signed("hal", by="ivy")
    seen.put(raw, tx.decode(raw), key("ivy").public)
    assert Play().refusal_of(raw) == "bad-signature"


@pytest.mark.parametrize(
    "raw",
    [
        signed("nobody"),
        signed("hal", by="ivy"),
        signed("hal", 7),
        signed("hal")[:-1] + b"\x00",
        tx.sign(key("hal"), bytes(32), "hal", 0, tx.Delegate("ann", 1)),
    ],
    ids=["of no member", "by another key", "of another sequence", "of another signature", "of another chain"],
)
def test_nothing_is_remembered_of_what_is_not_signed_or_not_next(seen, raw):
    assert begin().check_tx(raw) is not None
    assert seen.get(raw) is None


def test_the_oldest_are_forgotten_when_the_bytes_are_too_many():
    raws = [signed("hal", at) for at in range(10)]
    size = len(raws[0])
    assert {len(raw) for raw in raws} == {size}
    seen = SignatureCache(max_bytes=4 * size)
    for at, raw in enumerate(raws):
        seen.put(raw, tx.decode(raw), key("hal").public)
        seen.put(raw, tx.decode(raw), key("hal").public)
        kept = [other for other in raws if seen.get(other)]
        assert kept == raws[max(0, at - 3) : at + 1]


def rubbish(number):
    """Return a transaction without a signature, all of whose bytes are lists that take much more as objects."""
    body = {"title": "", "action": {"a": [[]] * 65_000}}
    return codec.encode([GENESIS, "hal", number, "propose", body, bytes(64)])


def test_what_anyone_can_send_without_a_key_is_not_held_in_memory():
    app = begin()
    app.check_tx(rubbish(0))
    raws = [rubbish(at) for at in range(1, 4)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert {app.check_tx(raw).code for raw in raws} == {"malformed"}
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # Each is 64 kB, and more than 3 MB of objects.
    assert after - before < 100_000


def test_a_transaction_has_so_many_items_at_most_and_the_largest_that_are_needed_have_half_of_that():
    def of(count):
        return codec.encode([GENESIS, "hal", 0, "propose", {"title": "", "action": {"a": [0] * count}}, bytes(64)])

    # 6 of the transaction, 2 of its fields, 1 of the action.
    tx.decode(of(tx.MAX_ITEMS - 9))
    with pytest.raises(Refused, match="too many items"):
        tx.decode(of(tx.MAX_ITEMS - 8))
    reveal = tx.Reveal(1, 1, bytes(32), (1_000_000,) * 500, bytes(32))
    codec.decode(tx.sign(key("hal"), GENESIS, "hal", 0, reveal), items=tx.MAX_ITEMS // 2)


def test_the_items_of_all_lists_and_dicts_are_counted_together():
    value = {"a": [1, [2, 3]], "b": {"c": []}}
    raw = codec.encode(value)
    # Two, two, two and one.
    assert codec.decode(raw, items=7) == value
    with pytest.raises(Malformed, match="too many items"):
        codec.decode(raw, items=6)
