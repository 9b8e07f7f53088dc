import struct

import pytest

import fedmeta as fm
from tests import toys


def scalars(folder):
    """Read the scalars of the one event file: a sequence of records, each with its length and two checksums."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.iterdir()
    content, found = file.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
        content = content[16 + length :]
    return found


def test_tensorboard_reads_every_rounds_figures(model, data, tmp_path):
    run = fm.train(
        fm.MAML(),
        model,
        data,
        rounds=2,
        cohort_size=2,
        listeners=[fm.events.TensorBoard(tmp_path)],
        validate=lambda phi: {"accuracy": 0.25},
    )
    found = scalars(tmp_path)
    assert set(found) == {"loss", "accuracy", "bytes_down", "bytes_up", "flops", "seconds", "validation_accuracy"}
    for name in ("loss", "accuracy", "bytes_up"):
        expected = dict(zip([1, 2], run.history[name].to_pylist(), strict=True))
        assert found[name] == pytest.approx(expected, rel=1e-6)
    assert found["validation_accuracy"] == {2: 0.25}


def test_a_row_is_flat_and_names_validation_figures():
    event = fm.events.RoundEnded(
        round=3,
        clients=("a", "b"),
        metrics={"loss": 0.5},
        bytes_down=8,
        bytes_up=8,
        flops=100,
        seconds=0.1,
        validation={"loss": 0.75},
    )
    row = event.row()
    assert (row["round"], row["loss"], row["validation_loss"], row["clients"]) == (3, 0.5, 0.75, ["a", "b"])
    assert set(row) == {
        "round",
        "loss",
        "validation_loss",
        "bytes_down",
        "bytes_up",
        "flops",
        "seconds",
        "clients",
    }


def test_listeners_are_any_functions_called_in_order(model):
    heard = []
    fm.train(
        fm.MAML(),
        model,
        toys.classification((6, 6)),
        rounds=1,
        cohort_size=1,
        listeners=[lambda event: heard.append("first"), lambda event: heard.append("second")],
    )
    assert heard == ["first", "second"] * 3
