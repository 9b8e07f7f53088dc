"""A member's examples are read as the trainer reads them, by the procedure; what does not fit it is named."""

import numpy as np
import pytest

from fedmeta import data
from fedmeta.errors import DataError, UsageError
from fedmeta.node.member.data import examples
from fedmeta.runs.inputs import Inputs
from tests.node.member.made import HEADER, configured, inputs, rows, table


def test_the_data_are_read_as_the_trainer_reads_them(tmp_path):
    table(tmp_path / "visits.csv", 30)
    table(tmp_path / "more.csv", 12)
    config = configured(tmp_path, data__paths=["visits.csv", "more.csv"], data__target="ill")
    x, y = examples(config, inputs(tmp_path))
    assert (x.shape, y.shape) == ((42, 2), (42,))
    assert x[:, 0].tolist() == [40.0 + at for at in (*range(30), *range(12))]
    # The classes stand in the order of training: no, yes.
    assert y[:4].tolist() == [1, 0, 1, 0]


def test_of_a_table_of_several_clients_the_members_are_taken(tmp_path):
    lines = [f"{'ours' if at < 7 else 'theirs'},{row}" for at, row in enumerate(rows(20))]
    (tmp_path / "all.csv").write_text("\n".join([f"clinic,{HEADER}", *lines]) + "\n")
    config = configured(tmp_path, data__paths=["all.csv"], data__client="clinic", data__clients=["ours"])
    assert len(examples(config, inputs(tmp_path))[0]) == 7
    everyone = configured(tmp_path, data__paths=["all.csv"], data__client="clinic")
    assert len(examples(everyone, inputs(tmp_path))[0]) == 20


def test_a_known_data_set_is_split_by_its_clients(tmp_path):
    whole = data.load("digits")
    mine = whole.client_ids[:2]
    config = configured(tmp_path, data__paths=["digits"], data__clients=list(mine))
    x, y = examples(config, Inputs.of(whole))
    assert len(x) == len(y) == sum(len(whole[name].y) for name in mine)
    np.testing.assert_array_equal(x[: len(whole[mine[0]].y)], whole[mine[0]].x)


@pytest.mark.parametrize(
    ("changed", "set_", "error", "says"),
    [
        ({"header": "age,smokes,ill"}, {}, DataError, "smoker"),
        ({"ill": ("yes", "perhaps")}, {}, DataError, "perhaps"),
        ({}, {"data__paths": ["absent.csv"]}, DataError, "absent.csv"),
        ({}, {"data__paths": []}, UsageError, "data.paths is empty"),
        ({}, {"data__target": "age"}, UsageError, "data.target is 'age', and the procedure predicts 'ill'"),
        ({}, {"data__paths": ["digits"]}, DataError, r"digits has inputs of shape \(64,\)"),
    ],
)
def test_data_that_do_not_fit_the_procedure_are_named(tmp_path, changed, set_, error, says):
    table(tmp_path / "visits.csv", **changed)
    config = configured(tmp_path, **{"data__paths": ["visits.csv"], **set_})
    with pytest.raises(error, match=says):
        examples(config, inputs(tmp_path))


def test_text_where_training_had_numbers_is_named(tmp_path):
    table(tmp_path / "visits.csv")
    (tmp_path / "visits.csv").write_text((tmp_path / "visits.csv").read_text().replace("45,", "old,"))
    with pytest.raises(DataError, match="age"):
        examples(configured(tmp_path, data__paths=["visits.csv"]), inputs(tmp_path))
