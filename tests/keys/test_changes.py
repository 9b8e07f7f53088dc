"""A key is that of a value at the moment of asking."""

import collections
import sys
import types
from typing import Any

import jax
import numpy as np
import pytest

from fedmeta._keys import value_key
from tests.keys.made import (
    Plain,
    Rate,
    by_default,
    executed,
    times,
)


# Each row: what is looked at, and what is done between two looks, after which it computes something else.
def _config_module(monkeypatch, text="SCALE = 2.0"):
    config = types.ModuleType("config_of_a_user")
    exec(text, vars(config))
    monkeypatch.setitem(sys.modules, config.__name__, config)
    return config


def _changes(monkeypatch):
    config = _config_module(monkeypatch, "SCALE = 2.0\ndef helper(x): return SCALE * x\nclass S: k = 1.0")
    space: dict[str, Any] = {"config": config, "S": 1.0, "T": [1.0], "D": {"a": 1.0}, "A": np.ones(3), "Plain": Plain}
    space |= {"o": Plain(2.0), "n": types.SimpleNamespace(k=2.0), "r": Rate(np.ones(2)), "__package__": "x.y"}

    def function(text):
        exec(f"def f(x): return {text}", space)
        return space["f"]

    def put(name, value):
        return lambda: space.__setitem__(name, value)

    exec("from functools import lru_cache, cached_property\n@lru_cache\ndef cached(n): return S * n", space)
    exec("class Holder:\n  k = 1.0\n  def scale(self): return S\nh = Holder()", space)
    late = types.CellType(1.0)
    captured = types.FunctionType(times(1.0).__code__, space, "f", None, (late,))
    inside = Plain(Plain([1.0]))
    changed = collections.UserDict(a=1.0)
    defaulted = by_default(1.0)
    held = [1.0]
    return {
        "a global": (function("S * x"), put("S", 2.0)),
        "a global's type": (function("S * x"), put("S", 1)),
        "a list among the globals": (function("T[0] * x"), lambda: space["T"].append(2.0)),
        "a dict among the globals": (function("D['a'] * x"), lambda: space["D"].update(a=2.0)),
        "an array among the globals": (function("A * x"), lambda: space["A"].__setitem__(0, 2.0)),
        "an array in a frozen dataclass": (function("r.of * x"), lambda: space["r"].of.__setitem__(0, 2.0)),
        "a module's attribute": (function("config.SCALE * x"), lambda: setattr(config, "SCALE", 3.0)),
        "a module's attribute that a helper reads": (function("helper(config)"), lambda: setattr(config, "SCALE", 3.0)),
        "a module's function": (function("config.helper(x)"), lambda: setattr(config, "helper", times(1.0))),
        "what a module's function reads": (function("config.helper(x)"), lambda: setattr(config, "SCALE", 3.0)),
        "a class in a module": (function("config.S.k * x"), lambda: setattr(config.S, "k", 2.0)),
        "an import inside": (
            executed("def f(x):\n  from config_of_a_user import SCALE\n  return SCALE * x"),
            lambda: setattr(config, "SCALE", 3.0),
        ),
        "a captured module": ((lambda c: lambda x: c.SCALE * x)(config), lambda: setattr(config, "SCALE", 3.0)),
        "a module as default": (by_default(config), lambda: setattr(config, "SCALE", 3.0)),
        "a name as a text": (function("globals()['S'] * x"), put("S", 2.0)),
        "an attribute as a text": (function("getattr(config, 'S').k"), lambda: setattr(config.S, "k", 2.0)),
        "a plain object": (function("o.k * x"), lambda: setattr(space["o"], "k", 3.0)),
        "an object in an object": (times(inside), lambda: inside.k.k.append(2.0)),
        "a namespace": (function("n.k * x"), lambda: setattr(space["n"], "k", 3.0)),
        "a user's dict": (times(changed), lambda: changed.update(a=2.0)),
        "a class attribute": (function("Plain.k"), lambda: monkeypatch.setattr(Plain, "k", 1.0, raising=False)),
        "a method": (space["h"], lambda: setattr(space["Holder"], "scale", times(2.0))),
        "what a method reads": (space["h"].scale, put("S", 2.0)),
        "a global that a cached function reads": (function("cached(3)"), put("S", 2.0)),
        "a cell": (captured, lambda: setattr(late, "cell_contents", 2.0)),
        "a captured list": (times(held), lambda: held.append(2.0)),
        "a default": (defaulted, lambda: setattr(defaulted, "__defaults__", (2.0,))),
        "a library's function": (function("config.jnp.tanh(x)"), lambda: setattr(config, "jnp", jax.nn)),
        "a name that a builtin had": (function("abs(x)"), put("abs", times(1.0))),
        "the code": (defaulted, lambda: setattr(defaulted, "__code__", (lambda x, scale=1.0: x + scale).__code__)),
    }


def _names(of):
    with pytest.MonkeyPatch.context() as patch:
        return list(of(patch))


@pytest.mark.parametrize("name", _names(_changes))
def test_a_key_is_that_of_the_value_at_the_moment_of_asking(name, monkeypatch):
    value, change = _changes(monkeypatch)[name]
    before = value_key(value)
    assert value_key(value) == before
    change()
    assert value_key(value) != before
