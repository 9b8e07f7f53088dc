"""The picture of who holds what: what it counts, and that it is drawn."""

import numpy as np
import pytest
from click.testing import CliRunner

import fedmeta as fm
from fedmeta.cli.data import data as command
from fedmeta.errors import UsageError
from fedmeta.study import who_holds


def test_counts_are_those_of_classes_and_of_parts_of_the_range():
    data = fm.data.from_arrays(np.zeros((5, 1)), ["a", "b", "b", "a", "b"], [1, 1, 1, 2, 2], classes=["a", "b", "c"])
    counts, rows, clients = who_holds.held(data)
    assert (counts.tolist(), rows, clients) == ([[1, 1], [2, 1], [0, 0]], ("a", "b", "c"), ("1", "2"))
    few = fm.data.from_arrays(np.zeros((4, 1)), [0.5, 2.5, 0.5, 1.0], [1, 1, 2, 2])
    assert who_holds.held(few)[:2][1] == ("0.5", "1", "2.5")
    assert who_holds.held(few).counts.tolist() == [[1, 1], [0, 1], [1, 0]]
    many = fm.data.from_arrays(np.zeros((101, 1)), np.arange(101) / 100, [1] * 101)
    counts = who_holds.held(many).counts
    assert counts.shape == (who_holds.BINS, 1)
    assert counts.sum() == 101
    assert counts.max() - counts.min() <= 2


def test_of_many_classes_the_commonest_are_drawn_and_the_rest_together():
    y = np.repeat(np.arange(40), np.arange(1, 41))
    data = fm.data.from_arrays(np.zeros((len(y), 1)), y, np.arange(len(y)) % 3)
    counts, rows, _ = who_holds.held(data)
    assert rows == (*(str(label) for label in range(39, 15, -1)), "16 others")
    assert counts.sum(axis=1).tolist() == [*range(40, 16, -1), sum(range(1, 17))]


def test_the_picture_shows_every_client_and_marks_those_with_other_labels(tmp_path):
    whole = fm.data.load("digits")
    data = fm.data.partition(whole, fm.data.dirichlet(clients=12, alpha=0.4))
    shifted = fm.data.partition(data, fm.data.concept_shift(share=0.5))
    figure = who_holds.draw(shifted, data)
    sizes, parts = figure.axes[:2]
    assert sorted(bar.get_height() for bar in sizes.patches) == sorted(data.sizes)
    shown = np.asarray(parts.images[0].get_array())
    np.testing.assert_allclose(shown.sum(axis=0), 1)
    assert [label.get_text() for label in parts.get_yticklabels()] == list("0123456789")
    marked = {parts.get_xticklabels()[int(place)].get_text() for place in parts.lines[0].get_xdata()}
    assert marked == {name for name in data.client_ids if (data[name].y != shifted[name].y).any()}
    assert not who_holds.draw(data).axes[1].lines
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        who_holds.save_picture(figure, tmp_path / "who.txt")


def test_what_has_no_single_target_cannot_be_drawn():
    data = fm.data.from_arrays(np.zeros((4, 1)), np.zeros((4, 2)), [1, 1, 2, 2])
    with pytest.raises(UsageError, match="could be drawn"):
        who_holds.draw(data)


def test_the_command_draws_spreads_and_stores(tmp_path):
    words = ["info", "digits", "--partition", "by_classes:clients=8,count=3+concept_shift:share=0.5"]
    out = ["--picture", str(tmp_path / "who.svg"), "--out", str(tmp_path / "kept")]
    result = CliRunner().invoke(command, [*words, *out])
    assert result.exception is None, result.output
    assert "clients            8" in result.stdout
    assert "labels are permuted" in (tmp_path / "who.svg").read_text()
    stored = fm.data.open(tmp_path / "kept")
    assert (stored.num_clients, stored.num_examples) == (8, 1797)
    result = CliRunner().invoke(command, ["info", "digits", "--data-option", "num_clients=7"])
    assert "clients            7" in result.stdout
