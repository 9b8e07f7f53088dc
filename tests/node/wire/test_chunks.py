import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.signatures import tagged
from fedmeta.node.errors import BadChunk
from fedmeta.node.wire.chunks import CHUNK, Blob, check_chunk, check_leaves, leaves

lengths = st.integers(1, 5).flatmap(lambda n: st.sampled_from([n, n * CHUNK - 1, n * CHUNK, n * CHUNK + 1]))


def some(length, seed=0):
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(length)


def pieces(data):
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]


@given(lengths, st.integers(0, 2**32))
def test_a_blob_is_the_root_of_rfc_6962_over_its_chunks_and_its_length(length, seed):
    data = some(length, seed)
    blob = Blob.of(data)
    assert blob == (merkle.root(pieces(data)), length)
    assert blob.id == tagged("blob", blob.root, length.to_bytes(8, "big"))
    assert [blob.size(number) for number in range(blob.chunks)] == [len(piece) for piece in pieces(data)]
    assert Blob.from_value(blob.to_value()) == blob


@given(lengths, st.data())
def test_each_chunk_is_accepted_in_its_place_and_nowhere_else(length, draw):
    data = some(length)
    blob, hashes = Blob.of(data), leaves(data)
    check_leaves(blob, hashes)
    for number, piece in enumerate(pieces(data)):
        check_chunk(blob, hashes, number, piece)
    number = draw.draw(st.integers(0, blob.chunks - 1))
    piece = bytearray(pieces(data)[number])
    piece[draw.draw(st.integers(0, len(piece) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(BadChunk, match=f"not chunk {number} of"):
        check_chunk(blob, hashes, number, bytes(piece))
    for wrong in (piece[:-1], piece + b"\0"):
        with pytest.raises(BadChunk, match=f"must be {len(piece)} bytes, not {len(wrong)}"):
            check_chunk(blob, hashes, number, bytes(wrong))
    for other, whole in enumerate(pieces(data)):
        if other != number:
            with pytest.raises(BadChunk):
                check_chunk(blob, hashes, number, whole)


@pytest.mark.parametrize("number", [-1, 2, 1 << 70])
def test_a_chunk_that_a_blob_does_not_have_is_refused(number):
    data = some(CHUNK + 1)
    with pytest.raises(BadChunk, match="have chunks 0 to 1"):
        check_chunk(Blob.of(data), leaves(data), number, data[:CHUNK])


@given(lengths, st.data())
def test_leaves_of_another_blob_or_in_another_number_are_refused(length, draw):
    data = some(length)
    blob, hashes = Blob.of(data), leaves(data)
    changed = bytearray(hashes)
    changed[draw.draw(st.integers(0, len(changed) - 1))] ^= 1
    with pytest.raises(BadChunk, match="not those of the root"):
        check_leaves(blob, bytes(changed))
    for wrong in (hashes[:-1], hashes + bytes(32), b""):
        with pytest.raises(BadChunk, match=f"{blob.chunks} hashes of 32 bytes, not {len(wrong)} bytes"):
            check_leaves(blob, wrong)


def test_leaves_do_not_pass_for_a_blob_with_the_same_root_and_fewer_chunks():
    # The pair of two leaves hashes to the same root as the leaves themselves.
    data = some(3 * CHUNK)
    hashes = leaves(data)
    pair = merkle.node_hash(hashes[:32], hashes[32:64])
    with pytest.raises(BadChunk, match="3 hashes"):
        check_leaves(Blob.of(data), pair + hashes[64:])


def test_there_is_no_blob_of_no_bytes():
    with pytest.raises(BadChunk, match="at least 1 byte"):
        Blob.of(b"")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "a list of its root and its length"),
        ([bytes(32)], "a list"),
        ((bytes(32), 1), "a list"),
        ([bytes(32), True], "a list"),
        (["0" * 32, 1], "a list"),
        ([bytes(31), 1], "must be 32 bytes, not 31"),
        ([bytes(32), 0], "from 1 to 2\\^63 - 1, not 0"),
        ([bytes(32), -1], "not -1"),
        ([bytes(32), 1 << 63], "from 1"),
    ],
)
def test_a_value_that_is_no_blob_is_refused(value, words):
    with pytest.raises(BadChunk, match=words):
        Blob.from_value(value)
