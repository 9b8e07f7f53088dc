from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Malformed, StateError
from fedmeta.govern.state import snapshot
from fedmeta.govern.state.records import Member
from fedmeta.govern.state.snapshot import CHUNK_BYTES, Restore, decode_manifest, encode_manifest, restore, take
from tests.govern.engines.story import story


def large(count=1_500):
    """Return a state of some chunks, with a record that is larger than one, and vacant slots."""
    draft = story().state.draft()
    for at in range(count):
        draft.put(Member(f"m{at}", "org", True, 0, (), None, 0, at, 0, "x" * 900, "", b""))
    draft.put(Member("long", "org", True, 0, (), None, 0, 0, 0, "x" * (CHUNK_BYTES * 2), "", b""))
    state = draft.finish()
    draft = state.draft()
    for at in range(0, count, 3):
        draft.delete(Member, f"m{at}")
    return draft.finish()


LARGE = large()
MANIFEST, CHUNKS = take(LARGE)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.binary(max_size=300)), max_size=20), st.integers(1, 64))
def test_rows_come_out_of_chunks_of_any_size_as_they_went_in(rows, size):
    stream = b"".join(snapshot.cut(rows))
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert list(snapshot.rows(pieces)) == rows
    if stream:
        with pytest.raises(Malformed, match="end within a record"):
            list(snapshot.rows([stream[:-1]]))


def test_chunks_are_at_most_a_mebibyte_and_give_the_state_back():
    manifest, chunks = MANIFEST, CHUNKS
    assert [len(chunk) for chunk in chunks[:-1]] == [CHUNK_BYTES] * (len(chunks) - 1)
    assert 0 < len(chunks[-1]) <= CHUNK_BYTES
    assert len(chunks) >= 3
    assert (manifest.height, manifest.app_hash) == (LARGE.height, LARGE.root)
    assert list(restore(manifest, 0, chunks).dump()) == list(LARGE.dump())


def test_chunks_come_in_any_order_and_only_all_of_them_give_a_state():
    manifest, chunks = MANIFEST, CHUNKS
    going = Restore(manifest, 0)
    for number in reversed(range(1, len(chunks))):
        assert going.add(number, chunks[number])
        assert not going.add(number, chunks[0])
    assert going.missing == [0]
    with pytest.raises(StateError, match=f"1 of {len(chunks)} chunks"):
        going.state()
    assert going.add(0, chunks[0])
    assert going.state().root == LARGE.root


def test_no_damage_to_a_chunk_gets_through():
    manifest, chunks = MANIFEST, CHUNKS
    for number in range(len(chunks)):
        for at in (0, len(chunks[number]) // 2, len(chunks[number]) - 1):
            bad = bytearray(chunks[number])
            bad[at] ^= 1
            assert not Restore(manifest, 0).add(number, bytes(bad))
            with pytest.raises(StateError, match=f"chunk {number} of the snapshot"):
                restore(manifest, 0, [*chunks[:number], bytes(bad), *chunks[number + 1 :]])
    for some in (chunks[:-1], [*chunks, b""], []):
        with pytest.raises(StateError):
            restore(manifest, 0, some)


def test_a_manifest_that_lies_about_the_state_gives_none():
    manifest, chunks = MANIFEST, CHUNKS
    for lie in (
        replace(manifest, app_hash=b"\0" * 32),
        replace(manifest, chain_id="other"),
    ):
        with pytest.raises(StateError):
            restore(lie, 0, chunks)


def test_chunks_that_are_no_records_give_no_state():
    for stream in (b"", b"\0", (0).to_bytes(8, "big") + (1).to_bytes(4, "big") + b"\xff"):
        pieces = [stream] if stream else []
        manifest = replace(MANIFEST, chunks=tuple(map(snapshot.digest, pieces)))
        with pytest.raises(StateError):
            restore(manifest, 0, pieces)


def test_a_manifest_goes_out_and_back():
    assert decode_manifest(encode_manifest(MANIFEST)) == MANIFEST


@given(st.binary(max_size=120))
def test_bytes_that_are_no_manifest_are_malformed_and_nothing_else(data):
    with pytest.raises(Malformed):
        decode_manifest(data)


@pytest.mark.parametrize("lie", [{"height": 2**60}, {"height": -1}, {"app_hash": b""}, {"chunks": (b"",)}])
def test_a_manifest_out_of_range_is_malformed(lie):
    with pytest.raises(Malformed):
        decode_manifest(encode_manifest(replace(MANIFEST, **lie)))
