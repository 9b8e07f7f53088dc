"""PyTorch's function transforms: `grad` and `vmap` over the clients.

    build/peers-venv/bin/python benchmarks/peers/torch_func.py maml-mlp

is a worker: see worker.py. The gradient is taken of the cohort's mean loss, outside of `vmap`, so that no client's
own direction is ever formed.
"""

import os

import numpy as np
import synthetic
import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap
from torch_loop import compared, part
from torch_networks import NETWORKS, Params, mean_loss, softmax_to_fedmeta
from worker import Pipe, chosen_work, serve
from works import SERVER_RATE, Work


class Functions:
    """The server, and all clients of a round at once."""

    def __init__(self, work: Work):
        torch.manual_seed(0)
        self.work = work
        self.network = NETWORKS[work.network]
        x, y = synthetic.load(work)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.draw = np.random.default_rng(0)
        self.params = self.network.init()
        self.optimiser = torch.optim.Adam(self.params, lr=SERVER_RATE, fused=True)

    def run(self, rounds: int) -> float:
        """Run the rounds; return the last one's mean loss."""
        for _ in range(rounds):
            x, y = self.cohort()
            loss = self.averaging_round(x, y) if self.work.algorithm == "fedavg" else self.meta_round(x, y)
        return float(loss)

    def cohort(self) -> tuple[Tensor, Tensor]:
        """Draw clients, and an order of the examples of each; shapes [clients, examples, ...]."""
        clients = self.draw.choice(self.work.clients, self.work.cohort, replace=False)
        rows = np.stack([self.draw.permutation(self.work.examples) for _ in clients])
        place = torch.from_numpy(clients)[:, None], torch.from_numpy(rows)
        return self.x[place], self.y[place]

    def meta_round(self, x: Tensor, y: Tensor) -> float:
        """Run one round of MAML; return the mean query loss."""
        direction, loss = self.direction(x, y)
        for param, own in zip(self.params, direction, strict=True):
            param.grad = own
        self.optimiser.step()
        return float(loss)

    def direction(self, x: Tensor, y: Tensor) -> tuple[Params, Tensor]:
        """Return the gradient of the clients' mean query loss through one step on all of their support."""
        (sx, qx), (sy, qy) = (a.split([self.work.support, self.work.query], dim=1) for a in (x, y))

        def query_loss(params: Params, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
            gradient = grad(lambda p: mean_loss(self.network, p, sx, sy))(params)
            local = [torch.add(p, g, alpha=-self.work.rate) for p, g in zip(params, gradient, strict=True)]
            return mean_loss(self.network, local, qx, qy)

        def cohort_loss(params: Params) -> Tensor:
            return vmap(query_loss, in_dims=(None, 0, 0, 0, 0))(params, sx, sy, qx, qy).mean()

        return grad_and_value(cohort_loss)(self.params)

    def averaging_round(self, x: Tensor, y: Tensor) -> float:
        """Run one round of FedAvg; return the mean loss on the way."""
        assert self.work.batch is not None

        def train(params: Params, x: Tensor, y: Tensor) -> tuple[Params, Tensor]:
            losses = []
            for bx, by in zip(x.split(self.work.batch), y.split(self.work.batch), strict=True):
                gradient, loss = grad_and_value(lambda p, bx=bx, by=by: mean_loss(self.network, p, bx, by))(params)
                params = [torch.add(p, g, alpha=-self.work.rate) for p, g in zip(params, gradient, strict=True)]
                losses.append(loss)
            return params, torch.stack(losses).mean()

        local, losses = vmap(train, in_dims=(None, 0, 0))(self.params, x, y)
        self.params = [p.mean(0) for p in local]
        return float(losses.mean())

    def parameters(self) -> dict[str, np.ndarray]:
        """Return softmax regression's parameters by fedmeta's names."""
        return softmax_to_fedmeta(*self.params)

    def check(self, arrays: dict[str, np.ndarray]) -> dict[str, float]:
        """Compare the loss and the mean direction with fedmeta's."""
        self.params = self.network.from_fedmeta(part(arrays, "params/"))
        right = self.network.from_fedmeta(part(arrays, "direction/"))
        direction, loss = self.direction(torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"]))
        return compared(direction, float(loss), right, arrays, self.params)


if __name__ == "__main__":
    pipe = Pipe()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    serve(Functions(chosen_work()), pipe)
