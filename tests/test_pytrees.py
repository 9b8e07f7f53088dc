import hashlib
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save as serialise

from fedmeta import pytrees
from fedmeta.errors import CheckpointError, DataError, UnknownName, UsageError
from tests import toys

TREE = {
    "params": [{"weight": jnp.arange(6.0).reshape(2, 3)}],
    "round": jnp.int32(7),
    "half": jnp.ones(3, jnp.float16),
    "none": None,
}


@pytest.fixture
def file(tmp_path):
    pytrees.save(tmp_path / "deep" / "tree.safetensors", TREE, {"settings": {"a": [1, 2.5, "ü"]}})
    return tmp_path / "deep" / "tree.safetensors"


def test_what_is_saved_comes_back_to_the_bit(file):
    like = jax.eval_shape(lambda: TREE)
    tree = pytrees.load(file, like)
    assert toys.same_bits(tree, TREE)
    assert [leaf.dtype for leaf in jax.tree.leaves(tree)] == [leaf.dtype for leaf in jax.tree.leaves(TREE)]
    assert pytrees.load_metadata(file) == {"settings": {"a": [1, 2.5, "ü"]}}


def test_any_safetensors_reader_finds_arrays_under_their_paths(file):
    from safetensors.numpy import load_file

    arrays = load_file(file)
    assert set(arrays) == {"params/0/weight", "round", "half"}
    np.testing.assert_array_equal(arrays["params/0/weight"], np.arange(6).reshape(2, 3))


def test_arrays_in_another_memory_order_are_saved_as_they_read(tmp_path):
    transposed = np.arange(6.0, dtype=np.float32).reshape(2, 3).T
    pytrees.save(tmp_path / "t", {"a": transposed}, {})
    np.testing.assert_array_equal(pytrees.load(tmp_path / "t", {"a": transposed})["a"], transposed)


@pytest.mark.parametrize(
    ("like", "said"),
    [
        ({**TREE, "more": jnp.ones(1)}, "differs in more"),
        ({**TREE, "round": jnp.ones(2, jnp.int32)}, r"round is int32\[\], where int32\[2\] is expected"),
        ({**TREE, "half": jnp.ones(3)}, r"half is float16\[3\], where float32\[3\] is expected"),
    ],
)
def test_other_arrays_than_expected_are_named(file, like, said):
    with pytest.raises(CheckpointError, match=said):
        pytrees.load(file, like)


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*nothing"):
        pytrees.load(tmp_path / "nothing", TREE)
    (tmp_path / "text").write_text("not arrays at all")
    with pytest.raises(CheckpointError, match="text is damaged or was not written by fedmeta"):
        pytrees.load_metadata(tmp_path / "text")


# Paths.


MEETING = {
    "a/b": jnp.float32(1),
    "a": {"b": jnp.float32(2), "": jnp.float32(3)},
    "a~1b": jnp.float32(4),
    "": {"": jnp.float32(5)},
    "~": jnp.float32(6),
    "__metadata__": jnp.float32(7),
    "~__metadata__": jnp.float32(8),
}


def test_parameter_names_that_meet_are_kept_apart(tmp_path):
    assert len(pytrees.names(MEETING)) == 8
    pytrees.save(tmp_path / "t", MEETING)
    assert toys.same_bits(pytrees.load(tmp_path / "t", MEETING), MEETING)
    assert toys.same_bits(pytrees.load(tmp_path / "t"), MEETING)


@jax.tree_util.register_pytree_with_keys_class
class Twins:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey("x"), self.a), (jax.tree_util.GetAttrKey("x"), self.b)], None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_a_node_that_gives_its_children_one_key_is_refused():
    with pytest.raises(UsageError, match="two leaves of the tree have the path 'x'"):
        pytrees.pack(Twins(jnp.ones(1), jnp.ones(2)))


def test_a_file_written_before_names_were_escaped_is_read(tmp_path):
    tree = {"conv/kernel~": np.float32([1, 2]), "b": [np.float32([3])]}
    (tmp_path / "old").write_bytes(
        serialise({"conv/kernel~": tree["conv/kernel~"], "b/0": tree["b"][0]}, {"round": "3"})
    )
    assert toys.same_bits(pytrees.load(tmp_path / "old", tree), tree)
    assert pytrees.load_metadata(tmp_path / "old") == {"round": 3}


# Leaves.


def test_random_keys_are_saved_and_go_on(tmp_path):
    for impl in ("threefry2x32", "rbg", "unsafe_rbg"):
        tree = {"key": jax.random.key(7, impl=impl), "many": jax.random.split(jax.random.key(8, impl=impl), 3)}
        pytrees.save(tmp_path / "k", tree, {"round": 1})
        like = jax.eval_shape(lambda tree=tree: tree)
        for loaded in (
            pytrees.load(tmp_path / "k", tree),
            pytrees.load(tmp_path / "k", like),
            pytrees.load(tmp_path / "k"),
        ):
            assert jax.tree.map(lambda leaf: leaf.dtype, loaded) == jax.tree.map(lambda leaf: leaf.dtype, tree)
            assert jax.random.bits(loaded["key"]) == jax.random.bits(tree["key"])
            assert jnp.array_equal(jax.random.key_data(loaded["many"]), jax.random.key_data(tree["many"]))
        assert pytrees.load_metadata(tmp_path / "k") == {"round": 1}


def test_a_key_of_another_kind_than_expected_is_named(tmp_path):
    pytrees.save(tmp_path / "k", {"key": jax.random.key(0)})
    with pytest.raises(CheckpointError, match=r"key is uint32\[2\], a random key of threefry2x32, where uint32\[4\]"):
        pytrees.load(tmp_path / "k", {"key": jax.random.key(0, impl="rbg")})
    with pytest.raises(CheckpointError, match=r"a random key of threefry2x32, where uint32\[2\] is expected"):
        pytrees.load(tmp_path / "k", {"key": np.zeros(2, np.uint32)})


def test_a_server_optimiser_that_holds_a_key_goes_on_as_if_it_had_not_stopped(tmp_path):
    tx = optax.chain(optax.add_noise(0.01, 0.5, 0), optax.sgd(0.1))
    params = {"w": jnp.ones(3)}
    state = tx.update(params, tx.init(params), params)[1]
    pytrees.save(tmp_path / "s", state)
    there = pytrees.load(tmp_path / "s", tx.init(params))
    assert toys.same_bits(tx.update(params, there, params)[0], tx.update(params, state, params)[0])


def test_what_jax_would_round_is_saved_rounded_and_goes_on(tmp_path):
    like = {
        "float64": np.full(2, 0.1),
        "number": 2,
        "rate": 0.1,
        "scalar": np.float64(0.1),
        "weak": jnp.asarray(0.1) * 1,
    }
    pytrees.save(tmp_path / "t", like)
    loaded = pytrees.load(tmp_path / "t", like)
    rounded = np.float32(0.1)
    assert loaded["float64"].dtype == jnp.float32
    assert loaded["number"].dtype == jnp.int32
    assert loaded["number"] == 2
    assert all(np.all(np.asarray(loaded[name]) == rounded) for name in ("float64", "rate", "scalar", "weak"))


def test_with_64_bits_nothing_is_rounded(tmp_path, x64):
    tree = {"a": np.full(2, 0.1), "b": np.int64(1 << 40)}
    pytrees.save(tmp_path / "t", tree)
    assert toys.same_bits(pytrees.load(tmp_path / "t", tree), tree)


def test_a_file_of_float64_is_not_rounded_silently(tmp_path):
    (tmp_path / "t").write_bytes(serialise({"w": np.ones(2)}))
    with pytest.raises(UsageError, match=r"w in .*t is float64.*jax_enable_x64"):
        pytrees.load(tmp_path / "t")
    with pytest.raises(CheckpointError, match=r"w is float64\[2\], where float32\[2\] is expected"):
        pytrees.load(tmp_path / "t", {"w": jnp.ones(2)})


@pytest.mark.parametrize(("leaf", "said"), [("text", "no array but str: 'text'"), (np.array(["a"]), "an array of <U1")])
def test_a_leaf_that_is_no_array_of_numbers_is_named(leaf, said):
    for use in (pytrees.pack, pytrees.to_bytes, pytrees.digest):
        with pytest.raises(UsageError, match=f"layer/w is {said}"):
            use({"layer": {"w": leaf}})


def test_what_safetensors_cannot_hold_is_said():
    with pytest.raises(UsageError, match="safetensors cannot hold this tree"):
        pytrees.pack({"w": jnp.ones(2, jnp.int4)})


# Files without a tree to compare with.


def test_without_a_tree_dictionaries_and_lists_come_back(tmp_path):
    tree = {
        "layers": [{"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}, {"w": jnp.ones(1)}],
        "scale": {"0": jnp.ones(()), "2": jnp.ones(1)},
    }
    pytrees.save(str(tmp_path / "t"), tree)
    assert toys.same_bits(pytrees.load(str(tmp_path / "t")), tree)
    assert toys.same_bits(pytrees.unpack(pytrees.pack(jnp.arange(3))), jnp.arange(3))
    assert pytrees.unpack(pytrees.pack({})) == pytrees.unpack(pytrees.pack({}, {"a": 1})) == {}


def test_a_file_of_another_program_is_read_by_its_names(tmp_path):
    (tmp_path / "t").write_bytes(serialise({"fc.weight": np.float32([1, 2])}, {"format": "pt"}))
    assert toys.same_bits(pytrees.load(tmp_path / "t"), {"fc.weight": jnp.float32([1, 2])})


def test_an_array_below_another_needs_a_tree(tmp_path):
    for names in (["a", "a/b"], ["a/b", "a"]):
        (tmp_path / "t").write_bytes(serialise({name: np.ones(1, np.float32) for name in names}))
        with pytest.raises(CheckpointError, match=r"give `like`"):
            pytrees.load(tmp_path / "t")


def test_a_file_cut_anywhere_or_with_a_bad_boolean_is_damaged(tmp_path):
    whole = pytrees.pack({"a": jnp.arange(3), "b": jnp.ones(1, bool)}, {"m": 1})
    assert whole[-1:] == b"\1"
    for content in (*(whole[:length] for length in range(len(whole))), whole[:-1] + b"\2"):
        with pytest.raises(CheckpointError, match="is damaged"):
            pytrees.unpack(content)


# Bytes.


BITS = {
    "bfloat16": jnp.array([1.5, -0.0, jnp.nan, jnp.inf], jnp.bfloat16),
    "bool": np.array([[True], [False]]),
    "double": np.array([0.1, -0.0, np.nan, 5e-324]),
    "empty": np.zeros((0, 3), np.float32),
    "int": np.array([-1, 2**40], np.int64),
    "none": None,
    "signalling": np.array([0x7FA00001], np.uint32).view(np.float32),
    "scalar": np.float32(2.0),
}


def test_bytes_keep_every_bit_and_no_header():
    data = pytrees.to_bytes(BITS)
    assert len(data) == pytrees.payload(BITS) == 4 * 2 + 2 + 4 * 8 + 0 + 2 * 8 + 4 + 4
    back = pytrees.from_bytes(data, jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), BITS))
    assert all(isinstance(leaf, np.ndarray) and leaf.flags.writeable for leaf in jax.tree.leaves(back))
    assert [leaf.dtype for leaf in jax.tree.leaves(back)] == [leaf.dtype for leaf in jax.tree.leaves(BITS)]
    assert pytrees.to_bytes(back) == data
    assert toys.same_bits(back, BITS)


def test_bytes_are_little_endian_in_the_order_of_the_leaves():
    tree = {"b": np.array([1, 2], ">i2"), "a": np.array([[1.0, 2.0], [3.0, 4.0]], ">f8").T}
    assert pytrees.to_bytes(tree) == struct.pack("<4d2h", 1, 3, 2, 4, 1, 2)


def test_random_keys_travel_as_their_words():
    tree = {"k": jax.random.split(jax.random.key(3), 2), "x": jnp.ones(1)}
    back = pytrees.from_bytes(pytrees.to_bytes(tree), jax.eval_shape(lambda: tree))
    assert pytrees.payload(tree) == 2 * 2 * 4 + 4
    assert jnp.array_equal(jax.random.key_data(back["k"]), jax.random.key_data(tree["k"]))
    assert back["k"].dtype == tree["k"].dtype


@pytest.mark.parametrize("length", [0, 11, 13])
def test_bytes_of_another_length_are_refused(length):
    with pytest.raises(DataError, match=f"take 12 bytes, but there are {length}"):
        pytrees.from_bytes(bytes(length), {"a": jax.ShapeDtypeStruct((3,), jnp.float32)})


def test_bytes_that_no_boolean_has_are_refused():
    with pytest.raises(DataError, match="flag is boolean"):
        pytrees.from_bytes(b"\1\2", {"flag": jax.ShapeDtypeStruct((2,), jnp.bool_)})


# Digests.


def test_the_digest_is_of_paths_types_shapes_and_bytes():
    tree = {"a": {"b": jnp.float32([[1, 2]])}, "n": jnp.int32(5)}
    head = json.dumps([["a/b", "float32", [1, 2]], ["n", "int32", []]], separators=(",", ":")).encode()
    assert pytrees.digest(tree) == hashlib.sha256(head + b"\0" + struct.pack("<ffi", 1, 2, 5)).hexdigest()


def test_equal_content_has_one_digest_and_any_change_another():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    same = [array, jnp.asarray(array), np.asfortranarray(array), array.astype(">f4")]
    assert len({pytrees.digest({"w": leaf}) for leaf in same}) == 1
    zeros = np.zeros(2, np.float32)
    other = [
        {"w": zeros},
        {"v": zeros},
        {"w": -zeros},
        {"w": zeros.view(np.int32)},
        {"w": zeros[None]},
        {"w": {"0": zeros}},
    ]
    other += [{"w": jax.random.wrap_key_data(np.zeros(2, np.uint32))}, {"w": np.zeros(2, np.uint32)}]
    assert len({pytrees.digest(tree) for tree in other}) == len(other)


# Halves.


PARAMS = {"body": [jnp.ones(1), jnp.ones(2)], "head": {"w": jnp.ones(3), "b": jnp.ones(4)}, "none": None}


@pytest.mark.parametrize(
    ("patterns", "sizes"),
    [(("head/*",), {3, 4}), (["*/b", "body/1"], {2, 4}), ("body*", {1, 2}), (None, {1, 2, 3, 4}), ((), set())],
)
def test_patterns_choose_leaves_and_the_halves_make_the_whole(patterns, sizes):
    chosen, rest = pytrees.split(PARAMS, patterns)
    assert {leaf.size for leaf in jax.tree.leaves(chosen)} == sizes
    assert {leaf.size for leaf in jax.tree.leaves(rest)} == {1, 2, 3, 4} - sizes
    for whole in (pytrees.join(chosen, rest), pytrees.join(rest, chosen)):
        assert jax.tree.structure(whole) == jax.tree.structure(PARAMS)
        assert toys.same_bits(whole, PARAMS)


def test_a_pattern_that_chooses_nothing_is_named_with_what_there_is():
    with pytest.raises(UnknownName, match=r"unknown path of a parameter 'haed/w': did you mean 'head/w'"):
        pytrees.split(PARAMS, ("body/*", "haed/w"))
    with pytest.raises(UsageError, match=r"'x': known are body/0, body/1, head/b, head/w"):
        pytrees.split(PARAMS, ("x",))


def test_halves_that_do_not_fit_are_refused():
    chosen, rest = pytrees.split(PARAMS, ("head/*",))
    with pytest.raises(UsageError, match="head/b is in both halves"):
        pytrees.join(chosen, PARAMS)
    with pytest.raises(UsageError, match="not of one tree"):
        pytrees.join(chosen, rest["body"])
