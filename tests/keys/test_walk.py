"""What a key tells apart, holds, and costs."""

import dataclasses
import functools
import gc
import logging
import subprocess
import sys
import time
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedmeta as fm
from fedmeta._keys import value_key
from tests.keys.made import Plain, recursive, times


def test_objects_that_were_made_alike_are_two_and_an_id_is_not_used_again():
    key = value_key(times(Plain(2.0)))
    ids = set()
    for _ in range(200):
        other = times(Plain(2.0))
        assert value_key(other) != key
        ids.add(id(other.__closure__[0].cell_contents))
        del other
    assert id(key._held[0]) not in ids


def test_classes_that_were_made_alike_are_two_since_libraries_register_them():
    def local():
        @dataclasses.dataclass(frozen=True)
        class Local:
            k: float = 1.0

        return Local

    one, other = local(), local()
    assert value_key(one()) == value_key(one())
    assert value_key(one()) != value_key(other())


def test_primitives_of_one_name_are_two():
    from jax.extend.core import Primitive

    assert value_key(Primitive("mine")) != value_key(Primitive("mine"))


def test_a_user_s_file_with_the_name_of_a_library_s_module_is_the_user_s(monkeypatch, tmp_path):
    (tmp_path / "wave.py").write_text("SCALE = 1.0\ndef f(x): return SCALE * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    import wave

    before = value_key(wave.f)
    monkeypatch.setattr(wave, "SCALE", 2.0)
    assert value_key(wave.f) != before


def test_a_wrapper_that_borrows_the_name_of_a_library_s_function_is_looked_into():
    def borrow(w):
        @functools.wraps(fm.losses.squared_error)
        def loss(predictions, y):
            return w * fm.losses.squared_error(predictions, y)

        return loss

    assert value_key(borrow(1.0)) == value_key(borrow(1.0))
    assert len({value_key(borrow(1.0)), value_key(borrow(2.0)), value_key(fm.losses.squared_error)}) == 3


def test_it_does_not_matter_whether_a_part_that_occurs_twice_is_one_object_or_two():
    once = optax.adam(1e-3)
    assert value_key((once, once)) == value_key((optax.adam(1e-3), optax.adam(1e-3)))
    power = recursive(2.0)
    assert value_key((power, power, 1)) == value_key((recursive(2.0), recursive(2.0), 1))
    assert value_key((power, power)) != value_key((recursive(2.0), recursive(3.0)))


def test_a_cycle_is_told_from_its_unrolling_that_ends_elsewhere():
    def ring(first, back):
        chain: list[Any] = [1]
        inner: list[Any] = [2, chain]
        chain.append(inner)
        inner.append(back(chain, inner))
        return first(chain, inner)

    keys = {
        value_key(ring(first, back))
        for first in (lambda c, i: c, lambda c, i: i)
        for back in (lambda c, i: c, lambda c, i: i)
    }
    assert len(keys) == 4


def test_functions_that_all_name_one_another_are_looked_at_in_linear_time():
    count = 60
    text = "\n".join(f"def f{i}(x): return {' + '.join(f'f{j}(x)' for j in range(count))}" for i in range(count))
    space: dict[str, Any] = {}
    exec(text, space)
    value_key(space["f0"])
    nest: Any = 1.0
    for _ in range(60):
        nest = (nest, nest)
    began = time.process_time()
    assert value_key(space["f0"]) == value_key(space["f0"])
    assert value_key(nest) == value_key(nest)
    assert time.process_time() - began < 5.0


def test_what_is_too_deep_to_be_looked_at_is_equal_to_nothing_else():
    def deep(end):
        nest = [end]
        for _ in range(10_000):
            nest = [nest]
        return nest

    value = deep(1.0)
    key = value_key(value)
    same = key
    assert key == same
    assert key != value_key(value)
    assert hash(key) == hash(key)


def test_loggers_and_streams_do_not_make_a_key_change():
    log = logging.getLogger("of a user")
    f = (lambda log: lambda x: log.debug(x) or x)(log)
    before = value_key(f)
    f(1.0)
    logging.getLogger("another")
    assert value_key(f) == before


def test_keys_can_be_made_while_a_program_is_traced():
    captured, key = jnp.arange(3.0), jax.random.key(3)
    outside = value_key((times(captured), key))

    @jax.jit
    def program(x):
        assert value_key((times(captured), key)) == outside
        assert value_key(times(x)) == value_key(times(x))
        assert value_key(times(x)) != value_key(times(x + 1))
        return x

    program(jnp.ones(3))


def test_a_key_holds_no_array_and_no_function_of_the_value():
    array = np.arange(1000.0)
    array = array.view()  # so that it can be referred to weakly
    f = times(array)
    gone = weakref.ref(array), weakref.ref(f)
    key = value_key((f, array))
    del f, array
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert hash(key) == hash(key)


def test_the_key_of_a_typical_federation_is_made_in_less_than_a_millisecond():
    # In a process of its own, since the checks of annotations that run with the tests take a hundred times as long.
    text = """
import time
from fedmeta._keys import value_key
from tests.keys.made import federation

def clock(value):
    began = time.perf_counter()
    value_key(value)
    return time.perf_counter() - began

value = federation()
assert value_key(value) == value_key(federation())
print(min(clock(value) for _ in range(100)))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1e-3
