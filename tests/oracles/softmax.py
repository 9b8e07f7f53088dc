"""Softmax regression and its local training, in NumPy and double precision."""

import numpy as np


def probabilities(params, x):
    logits = x.reshape(len(x), -1).astype(np.float64) @ params["weight"] + params["bias"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def predictions(params, x):
    return probabilities(params, x).argmax(axis=1)


def loss(params, x, y):
    return float(-np.log(probabilities(params, x)[np.arange(len(y)), y]).mean())


def gradient(params, x, y):
    error = probabilities(params, x)
    error[np.arange(len(y)), y] -= 1
    return {
        "weight": x.reshape(len(x), -1).astype(np.float64).T @ error / len(y),
        "bias": error.mean(axis=0),
    }


def descend(params, x, y, lr, batches):
    """Take one gradient step for each array of row numbers in `batches`."""
    for rows in batches:
        slope = gradient(params, x[rows], y[rows])
        params = {name: params[name] - lr * slope[name] for name in params}
    return params
