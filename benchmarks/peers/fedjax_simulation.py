"""FedJAX: its own FedAvg, on its default backend for a CPU.

    build/fedjax-venv/bin/python benchmarks/peers/fedjax_simulation.py fedavg-softmax

is a worker: see worker.py. FedJAX's FedAvg reports the norm of each client's update, and no loss; that is taken as the
round's metric.
"""

import fedjax
import jax
import jax.numpy as jnp
import numpy as np
import synthetic
from fedjax.algorithms import fed_avg
from worker import Pipe, chosen_work, serve
from works import CLASSES, PIXELS, Work


def loss(params, batch, rng):
    """Return each example's cross-entropy."""
    x = batch["x"]
    logits = x.reshape(x.shape[0], -1) @ params["weight"] + params["bias"]
    chosen = jnp.take_along_axis(logits, batch["y"][:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - chosen


class Simulation:
    """The sampler, the algorithm and the server's state."""

    def __init__(self, work: Work):
        x, y = synthetic.load(work)
        clients = {f"{client}".encode(): {"x": x[client], "y": y[client]} for client in range(work.clients)}
        self.sampler = fedjax.client_samplers.UniformGetClientSampler(
            fedjax.InMemoryFederatedData(clients), num_clients=work.cohort, seed=0
        )
        self.algorithm = fed_avg.federated_averaging(
            fedjax.grad(loss),
            fedjax.optimizers.sgd(work.rate),
            fedjax.optimizers.sgd(1.0),
            fedjax.ShuffleRepeatBatchHParams(batch_size=work.batch, num_epochs=None, num_steps=work.steps),
        )
        params = {"weight": jnp.zeros((PIXELS, CLASSES)), "bias": jnp.zeros(CLASSES)}
        self.state = self.algorithm.init(params)

    def run(self, rounds: int) -> None:
        """Run the rounds to their end."""
        for _ in range(rounds):
            self.state, diagnostics = self.algorithm.apply(self.state, self.sampler.sample())
            norms = jax.device_get([client["delta_l2_norm"] for client in diagnostics.values()])
            float(np.mean(norms))
        jax.block_until_ready(self.state.params)

    def parameters(self) -> dict[str, np.ndarray]:
        """Return softmax regression's parameters by fedmeta's names."""
        return {name: np.asarray(array) for name, array in self.state.params.items()}


if __name__ == "__main__":
    pipe = Pipe()
    serve(Simulation(chosen_work()), pipe)
