"""A run in words, and in its folder without the data."""

import fedmeta as fm
from tests import toys


def test_a_run_is_a_few_lines_that_a_person_reads(tmp_path):
    model, algorithm, data = toys.network(), fm.MAML(inner_lr=0.1), toys.classification()
    losses = iter([0.7, 0.5, 0.6])
    run = fm.train(
        algorithm,
        model,
        data,
        rounds=3,
        cohort_size=6,
        validate=lambda phi: {"loss": next(losses)},
        validate_every=1,
        patience=5,
        directory=tmp_path / "run",
    )
    last = run.rows[-1]
    assert str(run).splitlines() == [
        "FedMeta(MAML), 3 rounds",
        "clients that took part: 6",
        f"training, round 3: accuracy {last['accuracy']:.4g}, loss {last['loss']:.4g}",
        "validation, round 3: loss 0.6",
        "best: round 2, whose phi is the result",
        f"folder: {tmp_path / 'run'}",
    ]
    assert repr(run) == str(run)


def test_a_run_without_a_folder_or_validation_says_nothing_of_them():
    run = fm.train(fm.FedAvg(), toys.network(), toys.classification(), rounds=1)
    first, *lines = str(run).splitlines()
    assert first == "FedAvg, 1 round"
    assert [line.split(":")[0] for line in lines] == ["clients that took part", "training, round 1"]
