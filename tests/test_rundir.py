"""A run's folder: who may use it, what it refuses, and what it survives."""

import errno
import math
import os
import resource
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import optax
import pytest

import fedmeta as fm
from fedmeta import pytrees
from fedmeta.errors import CheckpointError, RunError, RunLocked, UsageError
from fedmeta.runs.folder import RunFolder, read_history, read_settings
from tests import toys

DATA = toys.classification((8, 8, 8))
ADAM = optax.adam(0.01)
SETTINGS = {
    "algorithm": fm.MAML(inner_lr=0.2),
    "rounds": 2,
    "cohort_size": 2,
    "server": ADAM,
    "support": 0.5,
    "checkpoint_every": 1,
}


def train(model, folder, data=DATA, **options):
    options = SETTINGS | options
    return fm.train(options.pop("algorithm"), model, data, **options, directory=folder)


def last_checkpoint(model, folder):
    state = fm.Federation(SETTINGS["algorithm"], model, ADAM).init(jax.random.key(0))
    return pytrees.load(folder / "checkpoint" / "state.safetensors", state)


def assert_one_line(error):
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    train(model, folder)
    return folder


@pytest.fixture
def run_copy(finished, tmp_path):
    """A copy of a finished run that a test may damage."""
    for file in finished.rglob("*"):
        target = tmp_path / file.relative_to(finished)
        if file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return tmp_path


def test_a_folder_holds_what_a_run_needs(finished):
    there = {str(file.relative_to(finished)) for file in finished.rglob("*") if file.is_file()} - {".lock"}
    assert there == {"run.toml", "metrics.jsonl", "model.safetensors", "checkpoint/state.safetensors"}
    settings = read_settings(finished)
    assert settings["algorithm"]["name"] == "maml"
    assert settings["run"]["rounds"] == 2
    assert pytrees.load_metadata(finished / "model.safetensors")["settings"] == settings


def test_two_processes_cannot_use_one_folder(tmp_path):
    code = "import sys; from fedmeta.runs.folder import RunFolder; RunFolder(sys.argv[1], {}).__enter__()"
    with RunFolder(tmp_path, {}):
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"RunLocked: {tmp_path} is in use by another process" in other.stderr
    with RunFolder(tmp_path, {}):
        pass


def test_a_run_locks_its_folder_until_it_ends(model, tmp_path):
    def again(event):
        with pytest.raises(RunLocked), RunFolder(tmp_path, {}):
            pass

    train(model, tmp_path, listeners=[again])
    train(model, tmp_path)


def test_a_folder_with_something_else_is_refused(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="holds something that is not a run"):
        train(model, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_folders_place_is_an_error_of_one_line(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot use .* as a run folder: ") as error:
        train(model, tmp_path / "file")
    assert_one_line(error)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"algorithm": fm.FOMAML(inner_lr=0.2)}, r"algorithm.name is 'maml' there and 'fomaml' here"),
        ({"algorithm": fm.MetaSGD(inner_lr=0.2)}, r"algorithm.name is 'maml' there and 'meta-sgd' here"),
        ({"algorithm": fm.MAML(inner_lr=0.3)}, r"algorithm.inner_lr is 0.2 there and 0.3 here"),
        ({"algorithm": fm.MAML(inner_lr=0.2, adapt_steps=4)}, r"algorithm.adapt_steps is None there and 4 here"),
        ({"seed": 1}, r"run.seed is 0 there and 1 here"),
        ({"cohort_size": 3}, r"run.cohort_size is 2 there and 3 here"),
        ({"support": 0.25}, r"run.support is 0.5 there and 0.25 here"),
        ({"max_examples": 4}, r"run.max_examples is None there and 4 here"),
        ({"recipe": {"data": "digits"}}, r"recipe is None there and .* here"),
        ({"data": toys.classification((8, 8, 9))}, r"the training clients' data \(run.data_sha256\)"),
        ({"server": optax.sgd(0.1)}, r"the digest of the shapes .*server optimiser's state"),
        ({"model": fm.models.mlp((toys.FEATURES, 6, toys.CLASSES))}, r"the digest of the shapes of the model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_with_other_settings_is_refused_and_what_differs_is_named(model, finished, changed, said):
    changed = dict(changed)
    before = (finished / "run.toml").read_bytes()
    with pytest.raises(CheckpointError, match=said) as error:
        train(changed.pop("model", model), finished, **changed)
    assert_one_line(error)
    assert (finished / "run.toml").read_bytes() == before


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_checkpoint_is_refused(model, run_copy, kept):
    file = run_copy / "checkpoint" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"state.safetensors is damaged") as error:
        train(model, run_copy, rounds=4)
    assert_one_line(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{broken}\n", "damaged in line 1"),
        (b"\xff\xfe\x00\n", "damaged in line 1"),
        (b'{"round": 1}\nnull\n', "damaged in line 2"),
        (b'{"round": 1}\n{"loss": 2}\n', "damaged in line 2"),
        (b'{"round": 1}\n{"round": 1}\n', "damaged in line 2"),
        (b'{"round": 1}\n', "1 rows of history for 2 rounds"),
        (b"", "0 rows of history for 2 rounds"),
    ],
)
def test_a_damaged_history_is_refused(model, run_copy, content, said):
    (run_copy / "metrics.jsonl").write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as error:
        train(model, run_copy, rounds=4)
    assert_one_line(error)


def test_a_damaged_run_toml_is_refused(model, run_copy):
    (run_copy / "run.toml").write_text("[run\n")
    with pytest.raises(CheckpointError, match=r"run.toml is damaged"):
        train(model, run_copy)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"holds no run: there is no file run.toml in it"):
        read_settings(tmp_path)
    assert read_history(tmp_path) == []


@contextmanager
def largest_file(size):
    """Let this process write no file beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # What is compiled meanwhile is not kept: cut off, it would be in the way of other tests.
    kept = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", math.inf)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", kept)


def test_a_disk_that_is_full_for_the_checkpoint_keeps_the_one_before(model, run_copy):
    before = last_checkpoint(model, run_copy)
    with RunFolder(run_copy, read_settings(run_copy)) as folder, largest_file(100):
        with pytest.raises(RunError, match=r"cannot write .*state.safetensors: File too large") as error:
            folder.save_checkpoint(before._replace(round=before.round + 1))
        assert_one_line(error)
    assert toys.same_bits(last_checkpoint(model, run_copy), before)
    assert [file.name for file in (run_copy / "checkpoint").iterdir()] == ["state.safetensors"]
    assert train(model, run_copy, rounds=3).history.num_rows == 3


def test_a_disk_that_is_full_for_the_history_stops_the_run_with_one_line(model, run_copy):
    length = (run_copy / "metrics.jsonl").stat().st_size

    def fill_the_disk(event):
        if isinstance(event, fm.events.RoundEnded):
            stack.enter_context(largest_file(length))

    with ExitStack() as stack, pytest.raises(RunError, match=r"cannot write .*: File too large") as error:
        train(model, run_copy, rounds=5, checkpoint_every=5, listeners=[fill_the_disk])
    assert_one_line(error)
    assert int(last_checkpoint(model, run_copy).round) == 2
    assert train(model, run_copy, rounds=3).history.num_rows == 3


@pytest.mark.parametrize("call", [0, 1])
def test_a_failing_flush_keeps_the_checkpoint_before(model, run_copy, monkeypatch, call):
    """The first flush of a checkpoint is that of the history, the second that of the file itself."""
    before = last_checkpoint(model, run_copy)
    calls = iter(range(9))
    fsync = os.fsync

    def full(handle):
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with RunFolder(run_copy, read_settings(run_copy)) as folder:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot write .*: No space left on device"):
            folder.save_checkpoint(before._replace(round=before.round + 1))
    assert toys.same_bits(last_checkpoint(model, run_copy), before)


def test_nothing_is_left_aside(model, run_copy):
    train(model, run_copy, rounds=4)
    assert not [file for file in Path(run_copy).rglob(".*") if file.name != ".lock"]
