"""The character network for Shakespeare (1802.07876, section 4; LEAF, arXiv 1812.01097)."""

from typing import Any

import jax
import jax.numpy as jnp

from fedmeta.model import Model
from fedmeta.models.layers import dense, dense_init


def char_lstm(
    vocabulary_size: int,
    num_classes: int | None = None,
    *,
    embedding: int = 8,
    hidden: int = 256,
    layers: int = 2,
) -> Model:
    """Return the paper's network for the next character: an embedding, stacked LSTM layers, a dense layer.

    Inputs are codes of shape [examples, characters]; the prediction is made at the last character.

    Args:
        vocabulary_size: the number of different characters.
        num_classes: the number of classes; the vocabulary where it is not given.
        embedding: the width of the embedding.
        hidden: the units of each LSTM layer.
        layers: the number of LSTM layers.
    """
    widths = [embedding, *[hidden] * layers]

    def init(key: Any) -> Any:
        keys = jax.random.split(key, 2 * layers + 2)
        cells = []
        for level, width in enumerate(widths[:-1]):
            cell = dense_init(keys[2 * level], width, 4 * hidden)
            # Gates in the order input, forget, cell, output; the forget gate starts open
            # (Jozefowicz et al. 2015, section 2.2).
            cell["bias"] = cell["bias"].at[hidden : 2 * hidden].set(1.0)
            cell["recurrent"] = dense_init(keys[2 * level + 1], hidden, 4 * hidden)["weight"]
            cells.append(cell)
        table = jax.random.normal(keys[-2], (vocabulary_size, embedding))
        return {
            "embedding": table,
            "lstm": cells,
            "classes": dense_init(keys[-1], hidden, num_classes or vocabulary_size),
        }

    def apply(params: Any, x: Any) -> jax.Array:
        sequence = params["embedding"][jnp.asarray(x).T]
        for cell in params["lstm"]:
            sequence = _lstm(cell, sequence)
        return dense(params["classes"], sequence[-1])

    return Model(init, apply, head=("classes/*",))


def _lstm(cell: Any, sequence: jax.Array) -> jax.Array:
    """Run one layer: [characters, examples, inputs] -> [characters, examples, hidden]."""
    recurrent = cell["recurrent"]

    def step(state: tuple[jax.Array, jax.Array], gates: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        output, memory = state
        i, f, g, o = jnp.split(gates + output @ recurrent, 4, axis=-1)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        output = jax.nn.sigmoid(o) * jnp.tanh(memory)
        return (output, memory), output

    zeros = jnp.zeros((sequence.shape[1], recurrent.shape[0]), recurrent.dtype)
    return jax.lax.scan(step, (zeros, zeros), dense(cell, sequence))[1]
