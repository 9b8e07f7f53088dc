import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Malformed, Refused
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, DoubleSignature, LightClientAttack
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import key

keys = st.binary(min_size=32, max_size=32)
twice, attacks = (
    st.lists(st.builds(deed, keys, st.integers(1, 2**53 - 1)), max_size=3).map(tuple)
    for deed in (DoubleSignature, LightClientAttack)
)
RAW = tx.sign(key("hal"), digest(b"genesis"), "hal", 0, tx.Leave())


@given(twice=twice, absent=st.lists(keys, max_size=3).map(tuple), attacks=attacks, count=st.integers(0, 2))
def test_a_block_comes_back_of_its_items(twice, absent, attacks, count):
    block = Block(7, 1_000, (RAW,) * count, twice, absent, attacks)
    assert Block.of(7, 1_000, block.items) == block
    assert block.items[block.first :] == block.transactions
    assert block.first == bool(twice or absent or attacks)


def test_where_the_engine_says_nothing_the_items_are_the_transactions():
    assert Block(1, 2, (RAW, RAW)).items == (RAW, RAW)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        codec.encode([[], []]),
        codec.encode([[]]),
        codec.encode([[], [], []]),
        codec.encode([[[bytes(32), 1]], [], []]),
        codec.encode([[], [], [[bytes(32), 0]]]),
        codec.encode([[], [], [bytes(32)]]),
        codec.encode([[], [], [[bytes(32), 1]], []]),
        codec.encode([[[bytes(31), 1]], []]),
        codec.encode([[[bytes(32), 0]], []]),
        codec.encode([[[bytes(32)]], []]),
        codec.encode([[], [bytes(33)]]),
        codec.encode([[], [1]]),
        codec.encode({"a": 1}),
    ],
)
def test_the_engine_s_word_has_one_form(said):
    whole = Block(1, 2, (), (DoubleSignature(bytes(32), 1),)).items[0]
    mark = whole[: whole.index(b"\0") + 1]
    with pytest.raises(Malformed):
        Block.of(1, 2, [mark + said, RAW])


def test_the_engine_s_word_is_no_transaction():
    with pytest.raises(Refused, match="malformed"):
        tx.decode(Block(1, 2, (), (), (bytes(32),)).items[0])
