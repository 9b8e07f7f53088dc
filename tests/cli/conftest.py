import json
from typing import NamedTuple

import numpy as np
import pytest

from fedmeta.cli import main
from tests.examples import TIMES


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


TRAINING = ("train", "compare", "resume")


@pytest.fixture
def drawn():
    """Asked for by a test for which the pictures of reports are drawn."""


@pytest.fixture
def fedmeta(capsys, request, monkeypatch):
    """Run a command as the shell would; return its exit code and what it wrote.

    Where nothing is said of baselines there are the free ones only: the others are trained, too. Pictures are not
    drawn, unless it is asked for or in `make soak`: it takes longer than to train so small a model.
    """

    def run(*arguments):
        capsys.readouterr()
        if arguments[0] in TRAINING and not TIMES and "drawn" not in request.fixturenames:
            monkeypatch.setattr("fedmeta.study.report.panels._svg", lambda *_, **__: "<svg></svg>")
            monkeypatch.setattr("fedmeta.study.plots.save_picture", lambda _, path: path.touch())
        if arguments[0] in TRAINING and "--baselines" not in arguments:
            arguments = (*arguments, "--baselines", "free")
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return Outcome(ended.value.code, written.out, written.err)

    return run


@pytest.fixture
def shop(tmp_path):
    """A table that nobody tuned for: users with a taste of their own; large and small numbers in the columns."""
    draw = np.random.default_rng(0)
    lines = ["user,spent,visits,member,label"]
    for user in range(12):
        taste = draw.normal(size=2)
        for _ in range(15):
            spent, visits = draw.normal(5000, 900), draw.integers(0, 9)
            likes = taste @ [(spent - 5000) / 900, (visits - 4) / 3] > 0
            lines.append(f"u{user},{spent:.2f},{visits},{draw.random() < 0.5},{'yes' if likes else 'no'}")
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def train_shop(fedmeta, shop, tmp_path):
    """Train on the table; return the run folder."""

    def train(*arguments, out="run", data=shop):
        table = ("--data", data, "--client", "user", "--target", "label")
        done = fedmeta("train", *table, "--algorithm", "maml", "--rounds", 3, "--out", tmp_path / out, *arguments)
        return done, tmp_path / out

    return train
