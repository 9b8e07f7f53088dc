"""ANIL, Per-FedAvg, FedProx, FedPer and SCAFFOLD on quadratic losses, against the papers' own lines in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta.errors import UsageError
from fedmeta.optimisers import momentum, sgd
from tests.oracles import quadratic

BODY, HEAD = 2, 3
SIZE = BODY + HEAD
LR, STEPS = 0.15, 3
OWN = np.arange(SIZE) >= BODY


@pytest.fixture(autouse=True)
def _doubles(x64):
    return x64


def model(start=None):
    """The quadratics in parameters that are a body and a head."""
    whole = quadratic.model(SIZE)
    start = np.zeros(SIZE) if start is None else start

    def apply(params, x):
        return whole.apply(jnp.concatenate([params["body"], params["head"]]), x)

    return fm.Model(lambda key: parts(start), apply, loss=whole.loss, metrics={}, head=("head",))


def parts(vector):
    return {"body": jnp.asarray(vector[:BODY]), "head": jnp.asarray(vector[BODY:])}


def joined(tree):
    return np.concatenate([tree["body"], tree["head"]])


@pytest.fixture
def problem():
    """Theta, a task, and its support and query losses as closed forms."""
    draw = np.random.default_rng(0)
    task = fm.Task(quadratic.batch(draw, SIZE, 4), quadratic.batch(draw, SIZE, 3))
    return draw.normal(size=SIZE), task, quadratic.Mean(task.support), quadratic.Mean(task.query)


def answer(algorithm, theta, task, key=0, memory=()):
    """Return what a client answers to theta."""
    update = jax.jit(lambda phi, key: algorithm.update(model(), phi, task, key, memory)[0])
    return joined(update(parts(theta), jax.random.key(key)).pseudo_gradient)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


# ANIL.


@pytest.mark.parametrize("steps", [1, 3])
def test_anil_goes_through_steps_of_the_head_alone(steps, problem):
    theta, task, support, query = problem
    adapted, slope = theta, np.eye(SIZE)
    for _ in range(steps):
        adapted = adapted - LR * OWN * support.gradient(adapted)
        slope = (np.eye(SIZE) - LR * OWN[:, None] * support.hessian) @ slope
    np.testing.assert_array_equal(adapted[:BODY], theta[:BODY])
    # The gradient is in all of theta, the body's part included.
    close(answer(fm.ANIL(inner_lr=LR, inner_steps=steps), theta, task), slope.T @ query.gradient(adapted))


def test_anil_adapts_the_head_alone(problem):
    theta, task, support, _ = problem
    algorithm = fm.ANIL(inner_lr=LR, inner_steps=STEPS)
    expected = theta
    for _ in range(STEPS):
        expected = expected - LR * OWN * support.gradient(expected)
    adapted = jax.jit(lambda phi: algorithm.adapt(model(), phi, task.support, jax.random.key(0)))(parts(theta))
    close(joined(adapted), expected)


def test_anil_of_all_parameters_is_maml_and_of_none_is_refused(problem):
    theta, task, _, _ = problem
    whole = answer(fm.ANIL(inner_lr=LR, inner_steps=2, adaptable=("*",)), theta, task)
    np.testing.assert_array_equal(whole, answer(fm.MAML(inner_lr=LR, inner_steps=2), theta, task))
    headless = fm.Model(model().init, model().apply, loss=model().loss, metrics={})
    with pytest.raises(UsageError, match="ANIL needs to know the head of the network: give adaptable="):
        fm.ANIL().update(headless, parts(theta), task, jax.random.key(0))
    with pytest.raises(UsageError, match="FedPer needs to know the head of the network: give personal="):
        fm.FedPer().init(headless, jax.random.key(0))


# Per-FedAvg.


def maml_gradient(t, support, query, exact):
    """The gradient of the query loss after one step on the support set; without the second derivative for FO."""
    inner = query.gradient(t - LR * support.gradient(t))
    return (np.eye(SIZE) - LR * support.hessian) @ inner if exact else inner


@pytest.mark.parametrize("exact", [True, False])
def test_per_fedavg_takes_the_papers_local_steps(exact, problem):
    """2002.07948, algorithm 1: w <- w - beta (I - alpha H(w, D'')) grad f(w - alpha grad f(w, D), D')."""
    theta, task, support, query = problem
    of = (fm.MAML if exact else fm.FOMAML)(inner_lr=LR, inner_steps=1)
    here = theta
    for _ in range(4):
        here = here - 0.05 * maml_gradient(here, support, query, exact)
    close(answer(fm.PerFedAvg(of=of, local=sgd(0.05), local_steps=4, batch_size=None), theta, task), theta - here)


def test_the_local_optimiser_of_per_fedavg_keeps_its_state_from_step_to_step(problem):
    theta, task, support, query = problem
    here, trace = theta, np.zeros(SIZE)
    for _ in range(4):
        trace = maml_gradient(here, support, query, True) + 0.5 * trace
        here = here - 0.05 * trace
    algorithm = fm.PerFedAvg(of=fm.MAML(inner_lr=LR), local=momentum(0.05, 0.5), local_steps=4, batch_size=None)
    close(answer(algorithm, theta, task), theta - here)


def test_each_local_step_of_per_fedavg_draws_of_both_sides(problem):
    """In batches of one, a step is that of one example of the support and one of the query, drawn anew."""
    theta, task, _, _ = problem
    sides = [
        [quadratic.Mean(batch.take(np.array([row]), np.ones(1))) for row in range(len(batch))]
        for batch in (task.support, task.query)
    ]
    algorithm = fm.PerFedAvg(of=fm.MAML(inner_lr=LR), local=sgd(1.0), local_steps=1, batch_size=1)
    update = jax.jit(lambda phi, key: algorithm.update(model(), phi, task, key)[0].pseudo_gradient)
    single = [[maml_gradient(theta, support, query, True) for query in sides[1]] for support in sides[0]]
    seen = set()
    for number in range(60):
        found = joined(update(parts(theta), jax.random.key(number)))
        gaps = np.abs(np.array(single) - found).max(axis=2)
        place = np.unravel_index(gaps.argmin(), gaps.shape)
        assert gaps[place] < 1e-9
        seen.add(tuple(map(int, place)))
    assert len(seen) == 12, "all pairs of four and three examples"


def test_per_fedavg_around_scaffold_wants_scaffolds_server():
    around = fm.PerFedAvg(of=fm.SCAFFOLD())
    with pytest.raises(UsageError, match="SCAFFOLD needs the server"):
        around.check_server(fm.optimisers.adam(0.1))


# FedProx.


@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_fedprox_descends_to_a_point_between_the_clients_and_the_global_one(mu, problem):
    """The loss plus mu / 2 |t - theta|^2 is a quadratic, so the steps have a closed form."""
    theta, task, _, _ = problem
    pooled = quadratic.Mean(task.support, task.query)
    hessian = pooled.hessian + mu * np.eye(SIZE)
    minimum = np.linalg.solve(hessian, pooled.hessian @ pooled.minimum + mu * theta)
    after = minimum + np.linalg.matrix_power(np.eye(SIZE) - LR * hessian, STEPS) @ (theta - minimum)
    options = {"inner_lr": LR, "inner_steps": STEPS, "inner_batch_size": None}
    found = answer(fm.FedProx(mu=mu, **options), theta, task)
    close(found, theta - after)
    if mu == 0:
        np.testing.assert_array_equal(found, answer(fm.FedAvg(**options), theta, task))


def test_a_strong_proximal_term_keeps_a_client_at_home(problem):
    theta, task, _, _ = problem
    moved = [
        np.linalg.norm(answer(fm.FedProx(mu=mu, inner_lr=0.01, inner_steps=50, inner_batch_size=None), theta, task))
        for mu in (0.0, 1.0, 10.0, 50.0)
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.1 * moved[0]


@pytest.mark.parametrize("mu", [-0.1, float("nan"), float("inf")])
def test_a_proximal_term_out_of_range_is_refused(mu):
    with pytest.raises(UsageError, match="mu must be a number from 0, not"):
        fm.FedProx(mu=mu)


# What clients keep: whole rounds, in the simulator.

SIZES = (4, 6, 6, 8)


def clients(seed=1):
    """A data set of quadratics, and each client's mean of them."""
    draw = np.random.default_rng(seed)
    batches = [quadratic.batch(draw, SIZE, size) for size in SIZES]
    # Data sets hold single precision.
    batches = [fm.Batch(batch.x.astype(np.float32).astype(np.float64), batch.y) for batch in batches]
    ids = np.repeat([f"c{number}" for number in range(len(SIZES))], SIZES)
    data = fm.data.from_arrays(np.concatenate([batch.x for batch in batches]), np.zeros(sum(SIZES)), ids)
    return data, {f"c{number}": quadratic.Mean(batch) for number, batch in enumerate(batches)}


def simulate(algorithm, server, theta, cohort_size, rounds):
    """Return the state and the simulator after these rounds, and their cohorts."""
    data, means = clients()
    there = fm.Simulator(
        fm.Federation(algorithm, model(theta), server), data, cohort_size=cohort_size, support=0.5, seed=3
    )
    state, cohorts = there.init(), []
    for number in range(1, rounds + 1):
        drawn = there.draw(number)
        state, figures = there.step(state, drawn)
        assert np.isfinite(figures.metrics["loss"])
        cohorts.append(drawn.clients)
    return there, state, cohorts, means


@pytest.mark.parametrize("cohort_size", [4, 2])
def test_scaffold_is_algorithm_1_with_option_ii(cohort_size):
    """1910.06378, algorithm 1, lines 3 to 17, with a global rate of 1."""
    theta, rounds = np.random.default_rng(2).normal(size=SIZE), 4
    algorithm = fm.SCAFFOLD(inner_lr=LR, inner_steps=STEPS, participation=cohort_size / len(SIZES))
    there, state, cohorts, means = simulate(algorithm, fm.optimisers.sgd(1.0), theta, cohort_size, rounds)
    x, c, own = theta, np.zeros(SIZE), {name: np.zeros(SIZE) for name in means}
    for cohort in cohorts:
        moves, changes = [], []
        for name in cohort:
            y = x
            for _ in range(STEPS):
                y = y - LR * (means[name].gradient(y) - own[name] + c)
            new = own[name] - c + (x - y) / (STEPS * LR)
            moves.append(y - x)
            changes.append(new - own[name])
            own[name] = new
        x = x + np.mean(moves, axis=0)
        c = c + len(cohort) / len(means) * np.mean(changes, axis=0)
    close(joined(state.phi["params"]), x)
    close(joined(state.phi["control"]), c)
    kept, _ = there.memory.read(list(means))
    for place, name in enumerate(means):
        close(joined(jax.tree.map(lambda leaf, at=place: leaf[at], kept)), own[name])
    # The server's control stays the mean of all clients' (there, section 4).
    close(joined(state.phi["control"]), joined(jax.tree.map(lambda leaf: leaf.mean(axis=0), kept)))
    assert len({name for cohort in cohorts for name in cohort}) == len(means), "all have taken part"


def test_scaffold_comes_where_fedavg_drifts():
    """Quadratics that differ have a joint minimum; many local steps of FedAvg miss it, SCAFFOLD's do not."""
    theta = np.zeros(SIZE)
    options = {"inner_lr": 0.1, "inner_steps": 10, "inner_batch_size": None}
    _, with_control, _, means = simulate(fm.SCAFFOLD(**options), fm.optimisers.sgd(1.0), theta, 4, 80)
    _, without, _, _ = simulate(fm.FedAvg(weighting="clients", **options), fm.optimisers.sgd(1.0), theta, 4, 80)
    hessian = np.mean([one.hessian for one in means.values()], axis=0)
    minimum = np.linalg.solve(hessian, np.mean([one.hessian @ one.minimum for one in means.values()], axis=0))
    near, far = (np.linalg.norm(joined(phi) - minimum) for phi in (with_control.phi["params"], without.phi))
    assert near < 1e-3
    assert far > 10 * near


@pytest.mark.parametrize(
    "server", [fm.optimisers.adam(0.1), fm.optimisers.sgd(0.5), optax.adam(0.1)], ids=["adam", "sgd", "optax"]
)
def test_scaffold_refuses_a_server_that_distorts_its_controls(server):
    data, _ = clients()
    with pytest.raises(UsageError, match=r"SCAFFOLD needs the server fm\.optimisers\.sgd\(1\.0\)"):
        fm.Simulator(fm.Federation(fm.SCAFFOLD(), model(), server), data, cohort_size=2)
    fm.SCAFFOLD().check_server(optax.sgd(1.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"participation": 0.0}, r"participation must lie in \(0, 1\]"),
        ({"participation": 1.5}, r"participation must lie in \(0, 1\]"),
        ({"inner": sgd(0.1)}, "inner=... has no meaning"),
        ({"inner_epochs": 2}, "give inner_steps, not inner_epochs"),
        ({"weighting": "examples"}, "weighting must be 'clients'"),
    ],
    ids=str,
)
def test_what_scaffold_has_no_meaning_for_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        fm.SCAFFOLD(**options)


def test_fedper_averages_bodies_and_leaves_heads_with_their_clients():
    """1912.00818, algorithms 1 and 2: each client goes on with the head that it had, whoever took part between."""
    theta, rounds = np.random.default_rng(4).normal(size=SIZE), 4
    algorithm = fm.FedPer(inner_lr=LR, inner_steps=STEPS, inner_batch_size=None)
    there, state, cohorts, means = simulate(algorithm, fm.optimisers.sgd(1.0), theta, 2, rounds)
    sizes = dict(zip(means, SIZES, strict=True))
    body, heads = theta[:BODY], {}
    for cohort in cohorts:
        bodies = []
        for name in cohort:
            here = np.concatenate([body, heads.get(name, theta[BODY:])])
            for _ in range(STEPS):
                here = here - LR * means[name].gradient(here)
            bodies.append(here[:BODY])
            heads[name] = here[BODY:]
        body = np.average(bodies, axis=0, weights=[sizes[name] for name in cohort])
    close(state.phi["body"], body)
    assert state.phi["head"] is None, "no head is ever sent"
    for name in means:
        close(there.memory.read([name])[0]["head"][0], heads.get(name, theta[BODY:]))
    turns = [name for cohort in cohorts for name in cohort]
    assert len(turns) > len(set(turns)), "somebody has come back"


def test_a_newcomer_to_fedper_adapts_body_and_head_from_what_the_seed_gives(problem):
    theta, task, support, _ = problem
    algorithm = fm.FedPer(inner_lr=LR, inner_batch_size=None, adapt_lr=0.1, adapt_steps=2)
    here = theta
    for _ in range(2):
        here = here - 0.1 * support.gradient(here)
    memory = {"body": None, "head": jnp.asarray(theta[BODY:])}
    phi = {"body": jnp.asarray(theta[:BODY]), "head": None}
    adapted = jax.jit(lambda phi, memory: algorithm.adapt(model(), phi, task.support, jax.random.key(0), memory))
    close(joined(adapted(phi, memory)), here)


def test_fedper_that_shares_nothing_is_refused():
    with pytest.raises(UsageError, match="they match every parameter"):
        fm.FedPer(personal=("*",)).init(model(), jax.random.key(0))
