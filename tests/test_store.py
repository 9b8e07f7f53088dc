import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmeta import store
from fedmeta.errors import CheckpointError, RunError
from tests import toys

TREE = {
    "params": [{"weight": jnp.arange(6.0).reshape(2, 3)}],
    "round": jnp.int32(7),
    "half": jnp.ones(3, jnp.float16),
    "none": None,
}


@pytest.fixture
def file(tmp_path):
    store.save(tmp_path / "deep" / "tree.safetensors", TREE, {"settings": {"a": [1, 2.5, "ü"]}})
    return tmp_path / "deep" / "tree.safetensors"


def test_what_is_saved_comes_back_to_the_bit(file):
    like = jax.eval_shape(lambda: TREE)
    tree, metadata = store.load(file, like)
    assert toys.same_bits(tree, TREE)
    assert [leaf.dtype for leaf in jax.tree.leaves(tree)] == [leaf.dtype for leaf in jax.tree.leaves(TREE)]
    assert metadata == store.load_metadata(file) == {"settings": {"a": [1, 2.5, "ü"]}}


def test_any_safetensors_reader_finds_arrays_under_their_paths(file):
    from safetensors.numpy import load_file

    arrays = load_file(file)
    assert set(arrays) == {"params/0/weight", "round", "half"}
    np.testing.assert_array_equal(arrays["params/0/weight"], np.arange(6).reshape(2, 3))


def test_arrays_in_another_memory_order_are_saved_as_they_read(tmp_path):
    transposed = np.arange(6.0, dtype=np.float32).reshape(2, 3).T
    store.save(tmp_path / "t", {"a": transposed}, {})
    np.testing.assert_array_equal(store.load(tmp_path / "t", {"a": transposed})[0]["a"], transposed)


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
        store.load(file, like)


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*nothing"):
        store.load(tmp_path / "nothing", TREE)
    (tmp_path / "text").write_text("not arrays at all")
    with pytest.raises(CheckpointError, match="text is damaged or was not written by fedmeta"):
        store.load_metadata(tmp_path / "text")


def test_a_path_that_cannot_be_is_an_error_of_its_own(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(RunError, match=r"cannot write .*file/below/it"):
        store.write_atomically(tmp_path / "file" / "below" / "it", b"")
    assert (tmp_path / "file").read_text() == "here"


def test_writing_replaces_whole_files(tmp_path):
    for content in (b"long old content", b"new"):
        store.write_atomically(tmp_path / "f", content)
        assert (tmp_path / "f").read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
