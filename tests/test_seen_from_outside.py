"""Faults that users met: each test is named for what must hold instead."""

import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import fedmeta as fm
from fedmeta._engine import program
from tests import toys
from tests.examples import cells

KEY = jax.random.key(0)


def run_outside(code, **options):
    """Run code in a process of its own, where no annotation is checked before the library sees a value."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_a_model_with_a_loop_of_unknown_length_trains_with_its_operations_unknown():
    def apply(params, x):
        w = lax.stop_gradient(params["w"])

        def turn(state):
            return state[0] + 1, (w @ (w.T @ state[1])) / 10

        u = lax.while_loop(lambda state: state[0] < 20, turn, (0, jnp.ones(toys.FEATURES)))[1]
        return x @ params["w"] / (1 + jnp.abs(u).max())

    shape = (toys.FEATURES, toys.CLASSES)
    model = fm.Model(lambda key: {"w": jax.random.normal(key, shape)}, apply)
    run = fm.train(fm.FOMAML(), model, toys.classification(), rounds=1)
    assert run.rows[0]["flops"] is None
    assert np.isfinite(run.rows[0]["loss"])


# The type and the plan do not heed one another: each once.
HALVES = [(jnp.float16, fm.Plan(chunk=64)), (jnp.bfloat16, fm.Plan())]


@pytest.mark.parametrize(
    ("dtype", "plan"),
    cells(HALVES, [*HALVES, (jnp.float16, fm.Plan()), (jnp.bfloat16, fm.Plan(chunk=64))]),
    ids=str,
)
def test_half_precision_updates_are_summed_in_single_precision(dtype, plan):
    """Weights above 65,504 overflow float16, and 200 terms lose the last bits of bfloat16."""
    draw = np.random.default_rng(0)
    each, clients = (400, 200) if dtype == jnp.float16 else (6, 200)
    x = draw.normal(size=(each * clients, 4)).astype(np.float32)
    y = (x @ draw.normal(size=(4, 3))).argmax(axis=1)
    data = fm.data.from_arrays(x, y, np.repeat([f"c{i}" for i in range(clients)], each), classes=3)
    model = fm.Model(
        lambda key: {"w": jnp.zeros((4, 3), dtype)}, lambda p, x: (x.astype(dtype) @ p["w"]).astype(jnp.float32)
    )
    algorithm = fm.FOMAML(inner_lr=0.1, weighting="examples")
    phi = model.init(KEY)
    update = jax.jit(lambda task: algorithm.update(model, phi, task, KEY)[0].pseudo_gradient["w"])
    updates = [np.asarray(update(data.task(name, 0.2, 0, round=1)), np.float64) for name in data.client_ids]
    run = fm.train(algorithm, model, data, rounds=1, cohort_size=clients, server=optax.sgd(1.0), plan=plan)
    expected, found = -np.mean(updates, axis=0), np.asarray(run.phi["w"], np.float64)
    assert np.abs(expected).max() > 0.01
    assert np.linalg.norm(found - expected) < 0.005 * np.linalg.norm(expected)


def test_a_setting_of_the_server_may_be_infinite_and_a_moment_may_not(model, data):
    def made(lr, norm):
        return optax.chain(optax.clip_by_global_norm(norm), optax.sgd(lr))

    unclipped = optax.inject_hyperparams(made)(lr=0.1, norm=float("inf"))
    plain = fm.train(fm.MAML(), model, data, rounds=2, server=optax.sgd(0.1))
    toys.assert_close(fm.train(fm.MAML(), model, data, rounds=2, server=unclipped).phi, plain.phi)
    broken = optax.chain(optax.sgd(0.1), optax.trace(decay=float("inf")))
    with pytest.raises(fm.errors.Diverged):
        fm.train(fm.MAML(), model, data, rounds=3, server=broken)


def test_numbers_of_numpy_and_jax_are_settings(data):
    code = """
import jax.numpy as jnp, numpy as np
import fedmeta as fm
from tests import toys
model, data = fm.models.softmax_regression(5, 3), toys.classification()
assert fm.MAML(inner_steps=np.int64(3), inner_lr=jnp.float32(0.5)) == fm.MAML(inner_steps=3, inner_lr=0.5)
run = fm.train(fm.MAML(inner_lr=jnp.float32(0.1)), model, data, rounds=np.int32(1), cohort_size=np.int64(3))
print(len(run.rows[0]["clients"]))
for options in ({"rounds": 2.0}, {"rounds": True}, {"rounds": 1, "cohort_size": "3"}, {"rounds": 1, "seed": 0.5}):
    try:
        fm.train(fm.MAML(), model, data, **options)
    except fm.errors.UsageError as error:
        print(error)
try:
    fm.MAML(inner_lr="fast")
except fm.errors.UsageError as error:
    print(error)
"""
    assert run_outside(code).splitlines() == [
        "3",
        "rounds must be a whole number, not 2.0",
        "rounds must be a whole number, not True",
        "cohort_size must be a whole number, not '3'",
        "seed must be a whole number, not 0.5",
        "inner_lr must be a number, not 'fast'",
    ]


@pytest.mark.parametrize(
    "server",
    [
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        optax.lookahead(optax.sgd(0.1), 5, 0.5),
        optax.polyak_sgd(),
    ],
    ids=["plateau", "lookahead", "polyak"],
)
def test_a_server_that_needs_more_than_a_gradient_is_refused(server, model, data):
    with pytest.raises(fm.errors.UsageError, match="the server's optimiser cannot step on a pseudo-gradient alone"):
        fm.train(fm.MAML(), model, data, rounds=1, server=server)


def around_maml(inner):
    return fm.PerFedAvg(of=fm.MAML(inner=inner))


@pytest.mark.parametrize("algorithm", cells([around_maml], [fm.MAML, fm.ANIL, fm.MetaSGD, around_maml]))
def test_an_inner_optimiser_whose_meta_gradient_would_be_nan_is_refused_with_the_cure(algorithm, data):
    model = toys.network()
    with pytest.raises(fm.errors.UsageError, match="eps_root"):
        fm.train(algorithm(inner=optax.adam(0.05)), model, data, rounds=1)
    cured = fm.train(algorithm(inner=optax.adam(0.05, eps_root=1e-8)), model, data, rounds=1)
    assert np.isfinite(toys.flat(cured.phi)).all()
    # A gradient of first order does not go through it.
    assert np.isfinite(toys.flat(fm.train(fm.FOMAML(inner=optax.adam(0.05)), model, data, rounds=1).phi)).all()


def test_a_run_stays_where_it_began_whoever_changes_the_working_directory(model, data, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "run").mkdir(parents=True)
    first.mkdir()
    monkeypatch.chdir(first)

    def look(phi):
        os.chdir(second)
        return {"a": 1.0}

    run = fm.train(fm.MAML(), model, data, rounds=4, validate=look, validate_every=2, directory="run")
    assert not list((second / "run").iterdir())
    assert (first / "run" / "model.safetensors").is_file()
    assert run.directory == first / "run"


def test_a_loop_over_adapt_compiles_once_for_each_number_of_examples():
    compiled = []

    def count(name, seconds, **_):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(name)

    data = toys.classification((6, 9) * 10)
    shapes = {len(data.task(name, 0.5).support) for name in data.client_ids}
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        for name in data.client_ids:
            # Made anew each time, as a script does that builds them in its loop.
            algorithm, model = fm.MAML(inner_lr=0.3, inner_steps=2), fm.models.mlp((toys.FEATURES, 7, toys.CLASSES))
            phi = jax.tree.map(np.asarray, model.init(KEY))
            algorithm.adapt(model, phi, data.task(name, 0.5).support, KEY)
            if name == data.client_ids[3]:
                compiled.clear()
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert len(shapes) == 2
    assert compiled == []


def test_a_second_run_of_parts_made_alike_compiles_no_round(data):
    counts = []

    def count(name, seconds, **_):
        if name == "/jax/core/compile/backend_compile_duration":
            counts.append(name)

    def train():
        model = fm.models.mlp((toys.FEATURES, 6, toys.CLASSES), activation=lambda v: jnp.maximum(v, 0.01 * v))
        return fm.train(fm.MAML(inner_lr=0.1), model, data, rounds=2, server=optax.adam(1e-3))

    first = train()
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        second = train()
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert toys.same_bits(first.state, second.state)
    # The check of the new model and its first parameters; no round.
    rounds = program.round_program.cache_info()
    assert rounds.hits > 0
    assert len(counts) <= 12


def test_a_program_that_cannot_be_rewritten_runs_as_it_is_with_a_warning(model, data, monkeypatch):
    plain = fm.train(fm.MAML(), model, data, rounds=2, plan=fm.Plan(rewrite=False))

    def fails(*_):
        raise KeyError("an operation that nobody has seen")

    program.round_program.cache_clear()
    monkeypatch.setattr(program, "rewrite", fails)
    with pytest.warns(UserWarning, match="the engine cannot rewrite this program"):
        run = fm.train(fm.MAML(), model, data, rounds=2, plan=fm.Plan())
    program.round_program.cache_clear()
    assert toys.same_bits(run.state, plain.state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fm.train(fm.MAML(), model, data, rounds=1, plan=fm.Plan(rewrite=False))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_after_jax_is_told_at_once():
    code = """
import os, warnings
import fedmeta as fm
from tests import toys
warnings.simplefilter("ignore")
model, data = toys.network(), toys.classification()
fm.train(fm.MAML(), model, data, rounds=1)
child = os.fork()
if child == 0:
    try:
        fm.train(fm.MAML(), model, data, rounds=1)
    except fm.errors.UsageError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert run_outside(code, timeout=120).startswith("this process was forked from one in which JAX had started")
