from dataclasses import dataclass
from typing import Annotated, Optional

import pytest

from fedmeta.govern.wire.hints import field_types, taken_apart


@dataclass
class Toy:
    b: Annotated[int, "a rule"]
    a: "tuple[str, ...] | None" = None


def test_fields_keep_their_order_and_their_rules_where_these_are_asked_for():
    assert list(field_types(Toy).items()) == [("b", int), ("a", tuple[str, ...] | None)]
    assert field_types(Toy, rules=True)["b"] == Annotated[int, "a rule"]


@pytest.mark.parametrize(
    ("hint", "layer"),
    [
        (int, ("leaf", (int,))),
        (Annotated[int, "x", "y"], ("rule", (int, "x", "y"))),
        (int | None, ("optional", (int,))),
        (None | int, ("optional", (int,))),
        (Optional[tuple[int, ...]], ("optional", (tuple[int, ...],))),  # noqa: UP045
        (int | str, ("leaf", (int | str,))),
        (int | str | None, ("leaf", (int | str | None,))),
        (tuple[int, ...], ("each", (int,))),
        (tuple[int, str], ("row", (int, str))),
        (tuple[int], ("row", (int,))),
        (tuple[()], ("row", ())),
        (tuple, ("leaf", (tuple,))),
        (list[int], ("leaf", (list[int],))),
        (dict[str, int], ("leaf", (dict[str, int],))),
    ],
)
def test_a_type_is_taken_apart_one_layer_at_a_time(hint, layer):
    assert taken_apart(hint) == layer
