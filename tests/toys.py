"""Small data sets and networks, and how two pytrees are compared."""

import jax
import numpy as np

import fedmeta as fm
from fedmeta.algorithms import ALGORITHMS, make
from tests.examples import cells

FEATURES, CLASSES = 5, 3
# Two sizes, so that little is compiled.
SIZES = (12, 6, 12, 12, 6, 6)

# Every algorithm, in each way of going through its examples.
LOOPS = {
    "full batch": {"inner_steps": 2, "inner_batch_size": None},
    "minibatches": {"inner_steps": 3, "inner_batch_size": 2},
    "epochs": {"inner_epochs": 2, "inner_batch_size": 2},
}
# SCAFFOLD's control divides by a number of steps.
EVERY_WAY = [(name, loop) for name in ALGORITHMS for loop in LOOPS if (name, loop) != ("scaffold", "epochs")]
EVERY_ALGORITHM = cells(
    [(name, loop) for name, loop in EVERY_WAY if loop == "minibatches" or name in ("maml", "fedavg")], EVERY_WAY
)


def algorithm(name, loop="full batch", **options):
    return make(name, **{"inner_lr": 0.2, **LOOPS[loop], **options})


def update_of(algorithm, model, key):
    """Return the compiled update of a client that has taken no part yet: (phi, task) -> ClientUpdate."""
    memory = algorithm.memory(model, key)
    return jax.jit(lambda phi, task: algorithm.update(model, phi, task, key, memory)[0])


def classification(sizes=SIZES, seed=0):
    """Clients "c0", "c1", ... of these sizes; each draws its inputs around a centre of its own."""
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    centres = draw.normal(size=(len(sizes), FEATURES))
    x = (centres[owner] + draw.normal(size=(len(owner), FEATURES))).astype(np.float32)
    y = draw.integers(CLASSES, size=len(owner))
    return fm.data.from_arrays(x, y, [f"c{o}" for o in owner], classes=CLASSES)


def regression(sizes=SIZES, seed=0):
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x = draw.normal(size=(len(owner), FEATURES)).astype(np.float32)
    return fm.data.from_arrays(x, x @ draw.normal(size=FEATURES), [f"c{o}" for o in owner])


def network():
    return fm.models.mlp((FEATURES, 4, CLASSES), activation=jax.nn.tanh)


def task(support=5, query=7, seed=0):
    draw = np.random.default_rng(seed)

    def batch(size):
        x = draw.normal(size=(size, FEATURES)).astype(np.float32)
        return fm.Batch(x, draw.integers(CLASSES, size=size).astype(np.int32))

    return fm.Task(batch(support), batch(query))


def fingerprint_model():
    """A linear regression that also measures its own parameters, whatever the examples are.

    The metric "fingerprint" is a fixed linear form of the parameters, so it shows what a client adapted to.
    """
    form = np.linspace(1.0, 2.0, FEATURES + 1, dtype=np.float32)

    def init(key):
        draws = jax.random.normal(key, (FEATURES + 1,))
        return {"body": draws[:-1], "head": draws[-1]}

    def apply(params, x):
        value = x @ params["body"] + params["head"]
        fingerprint = params["body"] @ form[:-1] + params["head"] * form[-1]
        return jax.numpy.stack([value, jax.numpy.full_like(value, fingerprint)], axis=1)

    return fm.Model(
        init,
        apply,
        loss=lambda predictions, y: fm.losses.squared_error(predictions[:, :1], y),
        metrics={"fingerprint": lambda predictions, y: predictions[:, 1]},
        head=("head",),
    )


def perturbed(data, rows, seed=7):
    """Return the data set with these rows' inputs and targets replaced."""
    draw = np.random.default_rng(seed)
    x, y = np.array(data.x[:]), np.array(data.y[:])
    x[rows] += draw.normal(size=x[rows].shape).astype(x.dtype)
    if y.dtype.kind == "f":
        y[rows] += 1
    else:
        y[rows] = (y[rows] + 1) % data.num_classes
    return fm.data.FederatedDataset(x, y, data.starts, data.sizes, data.ids, data.info)


def client_rows(data, place):
    return np.arange(data.starts[place], data.starts[place] + data.sizes[place])


def flat(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def assert_close(left, right, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def same_bits(left, right):
    return jax.tree.structure(left) == jax.tree.structure(right) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )
