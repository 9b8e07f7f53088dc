"""Quadratic losses, on which everything an algorithm computes has a closed form.

An example carries a symmetric matrix H and a point a; its loss is (t - a)' H (t - a) / 2. The mean over a
batch is a quadratic again: its gradient is H t - b, with H the mean of the matrices and b the mean of H a.
"""

import jax.numpy as jnp
import numpy as np

import fedmeta as fm


def model(size):
    def apply(params, x):
        x = jnp.asarray(x)
        gap = params - x[:, :size]
        return 0.5 * jnp.einsum("ni,nij,nj->n", gap, x[:, size:].reshape(-1, size, size), gap)

    return fm.Model(lambda key: jnp.zeros(size), apply, loss=lambda predictions, y: predictions, metrics={})


def batch(draw, size, examples):
    points = draw.normal(size=(examples, size))
    roots = draw.normal(size=(examples, size, size))
    matrices = roots @ roots.swapaxes(1, 2) / size + 0.3 * np.eye(size)
    x = np.concatenate([points, matrices.reshape(examples, -1)], axis=1)
    return fm.Batch(x, np.zeros(examples))


class Mean:
    """The mean of the quadratics of one or more batches."""

    def __init__(self, *batches):
        x = np.concatenate([batch.x for batch in batches])
        size = int((np.sqrt(1 + 4 * x.shape[1]) - 1) / 2)
        matrices = x[:, size:].reshape(-1, size, size)
        self.hessian = matrices.mean(axis=0)
        self.minimum = np.linalg.solve(self.hessian, np.einsum("nij,nj->ni", matrices, x[:, :size]).mean(axis=0))

    def gradient(self, t):
        return self.hessian @ (t - self.minimum)

    def contraction(self, rates):
        """The matrix by which a gradient step multiplies the distance to the minimum."""
        return np.eye(len(self.minimum)) - np.diag(rates) @ self.hessian

    def after(self, t, rates, steps):
        return self.minimum + np.linalg.matrix_power(self.contraction(rates), steps) @ (t - self.minimum)
