import pytest

from fedmeta.errors import UsageError
from fedmeta.models import Shape, build

IMAGE, TEXT = Shape((28, 28, 1), 10), Shape((80,), 81, 81)


@pytest.mark.parametrize(
    ("name", "shape", "options", "says"),
    [
        ("leaf_cnn", IMAGE, {"filters": 2}, "filters takes 2 numbers, not 2"),
        ("leaf_cnn", IMAGE, {"filters": (2, 3, 4)}, "filters takes 2 numbers"),
        ("leaf_cnn", IMAGE, {"filters": (0, 2)}, "filters must be at least 1"),
        ("leaf_cnn", IMAGE, {"hidden": (3, 4)}, "hidden takes 1 number, not"),
        ("char_lstm", TEXT, {"layers": 0}, "layers must be at least 1, not 0"),
        ("char_lstm", TEXT, {"embedding": (1, 2)}, "embedding takes 1 number"),
        ("mlp", IMAGE, {"hidden": (8, 0)}, "hidden must be at least 1"),
    ],
)
def test_an_option_takes_as_many_positive_numbers_as_the_network_has_places_for(name, shape, options, says):
    with pytest.raises(UsageError, match=says):
        build(name, shape, options)
