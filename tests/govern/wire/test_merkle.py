"""The Merkle tree is that of RFC 6962, however it came about, and a proof convinces of nothing but its leaf."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec, merkle
from tests.oracles.merkle import audit_path, tree_head

# The leaves and tree heads of the Certificate Transparency reference implementation's tests.
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
HEADS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def numbered(count):
    return [index.to_bytes(2, "big") for index in range(count)]


@pytest.mark.parametrize("count", range(9))
def test_the_published_roots_come_out(count):
    assert merkle.root(LEAVES[:count]).hex() == HEADS[count]


@pytest.mark.parametrize("count", [*range(1, 40), 63, 64, 65, 127, 128, 129])
def test_root_and_paths_are_those_of_the_recursive_definition(count):
    leaves = numbered(count)
    assert merkle.root(leaves) == tree_head(leaves)
    for index in {0, count // 3, count // 2, count - 1}:
        assert list(merkle.prove(leaves, index).path) == audit_path(leaves, index)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 21])
def test_a_proof_convinces_of_its_leaf_at_its_place_only(count):
    leaves = numbered(count)
    root = merkle.root(leaves)
    for index in range(count):
        proof = merkle.prove(leaves, index)
        assert merkle.verify(proof, root)
        assert not merkle.verify(replace(proof, leaf=b"other"), root)
        assert not merkle.verify(proof, merkle.root([*leaves, b"more"]))
        assert not merkle.verify(replace(proof, path=(*proof.path, bytes(32))), root)
        for other in range(count):
            assert merkle.verify(replace(proof, index=other), root) == (other == index)
        for at in range(len(proof.path)):
            short = proof.path[:at] + proof.path[at + 1 :]
            assert not merkle.verify(replace(proof, path=short), root)
            wrong = (*proof.path[:at], bytes(32), *proof.path[at + 1 :])
            assert not merkle.verify(replace(proof, path=wrong), root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (0, -1)])
def test_a_place_outside_of_the_tree_is_never_proven(index, size):
    assert not merkle.verify(merkle.Proof(b"", index, size, ()), merkle.root([b""]))


def test_an_inner_node_cannot_pass_for_a_leaf():
    leaves = numbered(4)
    left, right = merkle.root(leaves[:2]), merkle.root(leaves[2:])
    forged = merkle.Proof(left + right, 0, 1, ())
    assert not merkle.verify(forged, merkle.root(leaves))


@given(st.data())
def test_a_tree_that_grows_and_changes_is_the_tree_of_its_leaves(data):
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    leaves: list[bytes] = []
    tree = merkle.Tree()
    view = tree.view()
    for _ in range(data.draw(st.integers(1, 8))):
        size = len(leaves) + data.draw(st.integers(0, 9))
        changed = {at: rng.randbytes(4) for at in range(size) if at >= len(leaves) or rng.random() < 0.2}
        before, old_root = view, view.root
        leaves = [changed.get(at, leaves[at] if at < len(leaves) else b"") for at in range(size)]
        view = view.replace({at: merkle.leaf_hash(leaf) for at, leaf in changed.items()}, size)
        assert view.root == tree_head(leaves)
        assert before.root == old_root
        for at in range(size):
            assert list(view.path(at)) == audit_path(leaves, at)
        if data.draw(st.booleans()):
            tree.merge(view)
            view = tree.view()
            assert view.size == size
            assert view.root == tree_head(leaves)


def test_a_proof_goes_through_the_codec_and_back():
    proof = merkle.prove(numbered(11), 4)
    assert merkle.Proof.from_value(codec.decode(codec.encode(proof.to_value()))) == proof


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [b"", 0, 1],
        ["", 0, 1, []],
        [b"", True, 2, []],
        [b"", 0, 1, {}],
        [b"", 1, 1, []],
        [b"", -1, 1, []],
        [b"", 0, 0, []],
        [b"", 0, 2, [bytes(31)]],
        [b"", 0, 2, ["0" * 32]],
    ],
)
def test_a_value_that_is_no_proof_is_malformed(value):
    with pytest.raises(Malformed):
        merkle.Proof.from_value(value)


def test_no_leaf_outside_of_the_tree_can_be_asked_for():
    with pytest.raises(IndexError, match="no leaf 3 among 3"):
        merkle.prove(numbered(3), 3)
