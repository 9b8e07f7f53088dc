import numpy as np
import pytest

import fedmeta as fm
from fedmeta._fit import check_fit, drawn_sizes, usable_clients
from tests import toys


def test_clients_that_cannot_be_split_are_left_out_with_a_warning():
    data = toys.classification((3, 1, 2, 1))
    with pytest.warns(UserWarning, match="2 of 4 clients have fewer than 2 examples and are left out"):
        assert usable_clients(data, None).tolist() == [0, 2]


def test_data_in_which_no_client_can_be_split_are_refused():
    with pytest.raises(fm.errors.DataError, match=r"no client of .* has two examples"):
        usable_clients(toys.classification((1, 1)), None)


def test_clients_bring_at_most_max_examples():
    data = toys.classification((3, 9))
    assert drawn_sizes(data, None).tolist() == [3, 9]
    assert drawn_sizes(data, 5).tolist() == [3, 5]
    with pytest.raises(fm.errors.UsageError, match="max_examples must be at least 2"):
        usable_clients(data, 1)


def test_a_model_for_other_inputs_is_refused():
    with pytest.raises(fm.errors.UsageError, match=r"cannot take inputs of shape \(5,\) and type float32"):
        check_fit(fm.models.softmax_regression(4, 3), toys.classification())


def test_a_model_with_too_few_classes_is_refused():
    with pytest.raises(fm.errors.UsageError, match="predicts 2 classes, and the data have 3"):
        check_fit(fm.models.softmax_regression(5, 2), toys.classification())


def test_cross_entropy_on_numbers_is_refused():
    with pytest.raises(fm.errors.UsageError, match="the targets are numbers, not classes"):
        check_fit(fm.models.softmax_regression(5, 3), toys.regression())


def test_what_fits_passes():
    check_fit(fm.models.softmax_regression(5, 3), toys.classification())
    check_fit(fm.models.mlp((5, 1), loss=fm.losses.squared_error), toys.regression())
    assert np.array_equal(usable_clients(toys.classification(), None), np.arange(6))


def test_a_regression_whose_outputs_are_not_as_many_as_the_targets_is_refused():
    with pytest.raises(fm.errors.UsageError, match=r"predicts numbers of shape \(3,\), and the targets have"):
        check_fit(fm.models.mlp((5, 3), loss=fm.losses.squared_error), toys.regression())


def test_a_loss_that_returns_its_mean_is_refused_for_padding_would_count_in_it():
    model = toys.network()
    mean = fm.Model(model.init, model.apply, lambda p, y: fm.losses.softmax_cross_entropy(p, y).mean())
    with pytest.raises(fm.errors.UsageError, match="one value per example"):
        check_fit(mean, toys.classification())
