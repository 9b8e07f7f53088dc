"""PyTorch, a loop over clients: exact gradients by autograd, no work that is not needed.

    build/peers-venv/bin/python benchmarks/peers/torch_loop.py maml-cnn

is a worker: see worker.py.
"""

import os
from collections.abc import Iterator

import numpy as np
import synthetic
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_networks import (
    NETWORKS,
    Network,
    Params,
    mean_loss,
    num_parameters,
    relative_error,
    softmax_to_fedmeta,
)
from worker import Pipe, chosen_work, serve
from works import SERVER_RATE, Work

EVALUATED_AT_ONCE = 200
"""Query examples in a forward pass at the shared parameters, before the clients adapt."""


def batches(work: Work, x: Tensor, y: Tensor, draw: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the examples of each step; every pass shuffles anew."""
    left = work.steps
    while left:
        if work.batch is None:
            yield x, y
            left -= 1
            continue
        order = torch.from_numpy(draw.permutation(len(y)))
        for rows in order.split(work.batch)[:left]:
            yield x[rows], y[rows]
            left -= 1


def adapted(
    network: Network,
    work: Work,
    params: Params,
    rates: Params | None,
    steps: Iterator[tuple[Tensor, Tensor]],
) -> Params:
    """Return the parameters after the inner loop, with the graph that leads back to `params` and `rates`."""
    for x, y in steps:
        gradient = torch.autograd.grad(mean_loss(network, params, x, y), params, create_graph=True)
        if rates is None:
            params = [torch.add(p, g, alpha=-work.rate) for p, g in zip(params, gradient, strict=True)]
        else:
            params = [torch.addcmul(p, r, g, value=-1) for p, r, g in zip(params, rates, gradient, strict=True)]
    return params


def descended(
    network: Network, work: Work, params: Params, steps: Iterator[tuple[Tensor, Tensor]]
) -> tuple[Params, float]:
    """Return the parameters after the inner loop, without a graph, and the mean loss on the way."""
    local = [p.detach().clone().requires_grad_() for p in params]
    losses = []
    for x, y in steps:
        loss = mean_loss(network, local, x, y)
        gradient = torch.autograd.grad(loss, local)
        with torch.no_grad():
            torch._foreach_add_(local, gradient, alpha=-work.rate)
        losses.append(loss.detach())
    return local, float(torch.stack(losses).mean())


def first_order_direction(
    network: Network,
    work: Work,
    params: Params,
    support: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    draw: np.random.Generator,
) -> tuple[tuple[Tensor, ...], float]:
    """Return FOMAML's direction for one client, and the query loss."""
    local, _ = descended(network, work, params, batches(work, *support, draw))
    loss = mean_loss(network, local, *query)
    return torch.autograd.grad(loss, local), float(loss.detach())


class Loop:
    """The server and its clients."""

    def __init__(self, work: Work):
        torch.manual_seed(0)
        self.work = work
        self.network = NETWORKS[work.network]
        x, y = synthetic.load(work)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.draw = np.random.default_rng(0)
        self.start_from(self.network.init())

    def start_from(self, params: Params) -> None:
        """Begin anew at these parameters."""
        self.params = [p.requires_grad_() for p in params]
        self.rates = None
        if self.work.algorithm == "meta-sgd":
            self.rates = [torch.full_like(p, self.work.rate).requires_grad_() for p in params]
        self.phi = self.params + (self.rates or [])
        self.optimiser = torch.optim.Adam(self.phi, lr=SERVER_RATE, fused=True)

    def run(self, rounds: int) -> float:
        """Run the rounds; return the last one's mean loss."""
        once = {"evaluate": self.evaluate, "train": self.round}[self.work.task]
        for _ in range(rounds):
            loss = once()
        return loss

    def cohort(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw clients; yield the examples of each in an order drawn anew."""
        for client in self.draw.choice(self.work.clients, self.work.cohort, replace=False):
            order = torch.from_numpy(self.draw.permutation(self.work.examples))
            yield self.x[client][order], self.y[client][order]

    def round(self) -> float:
        """Run one round; return the mean loss."""
        if self.work.algorithm == "fedavg":
            return self.averaging_round()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.directions(self.cohort())
        self.optimiser.step()
        return loss

    def directions(self, cohort: Iterator[tuple[Tensor, Tensor]]) -> float:
        """Add the clients' directions up, divided by their number, in the parameters' `grad`; return the mean loss."""
        losses = []
        for x, y in cohort:
            support, query = zip(*(a.split([self.work.support, self.work.query]) for a in (x, y)), strict=True)
            if self.work.algorithm == "fomaml":
                direction, loss = first_order_direction(self.network, self.work, self.params, support, query, self.draw)
                if self.params[0].grad is None:
                    torch._foreach_div_(direction, self.work.cohort)
                    for param, own in zip(self.params, direction, strict=True):
                        param.grad = own
                else:
                    torch._foreach_add_([p.grad for p in self.params], direction, alpha=1 / self.work.cohort)
                losses.append(loss)
            else:
                steps = batches(self.work, *support, self.draw)
                params = adapted(self.network, self.work, self.params, self.rates, steps)
                loss = mean_loss(self.network, params, *query)
                (loss / self.work.cohort).backward(inputs=self.phi)
                losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def averaging_round(self) -> float:
        """Run one round of FedAvg; return the mean loss on the way."""
        total, losses = None, []
        for x, y in self.cohort():
            local, loss = descended(self.network, self.work, self.params, batches(self.work, x, y, self.draw))
            with torch.no_grad():
                if total is None:
                    total = local
                else:
                    torch._foreach_add_(total, local)
            losses.append(loss)
        with torch.no_grad():
            torch._foreach_div_(total, self.work.cohort)
        self.params = total
        return float(np.mean(losses))

    def evaluate(self) -> float:
        """Test every client before and after it adapts; return the loss after it."""
        orders = [torch.from_numpy(self.draw.permutation(self.work.examples)) for _ in range(self.work.clients)]
        parts = [order.split([self.work.support, self.work.query]) for order in orders]
        queries = [(self.x[client][query], self.y[client][query]) for client, (_, query) in enumerate(parts)]
        before, after = [], []
        group = EVALUATED_AT_ONCE // self.work.query
        with torch.no_grad():
            for first in range(0, self.work.clients, group):
                x, y = (torch.cat(arrays) for arrays in zip(*queries[first : first + group], strict=True))
                before.append(_scores(self.network.forward(self.params, x), y))
        for client, (support, _) in enumerate(parts):
            loss = mean_loss(self.network, self.params, self.x[client][support], self.y[client][support])
            local = torch.autograd.grad(loss, self.params)
            with torch.no_grad():
                torch._foreach_mul_(local, -self.work.rate)
                torch._foreach_add_(local, self.params)
                x, y = queries[client]
                after.append(_scores(self.network.forward(local, x), y))
        (_, _), (loss, _) = (torch.stack(scores).mean(0).tolist() for scores in (before, after))
        return loss

    def parameters(self) -> dict[str, np.ndarray]:
        """Return softmax regression's parameters by fedmeta's names."""
        return softmax_to_fedmeta(*self.params)

    def check(self, arrays: dict[str, np.ndarray]) -> dict[str, float]:
        """Compare the loss and the mean direction with fedmeta's."""
        self.work = self.work.to_check
        self.start_from(self.network.from_fedmeta(part(arrays, "params/")))
        right = self.network.from_fedmeta(part(arrays, "direction/"))
        if self.rates is not None:
            right += self.network.from_fedmeta(part(arrays, "direction of the rates/"))
        loss = self.directions(zip(torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"]), strict=True))
        return compared([p.grad for p in self.phi], loss, right, arrays, self.phi)


def compared(
    direction: Params, loss: float, right: Params, arrays: dict[str, np.ndarray], phi: Params
) -> dict[str, float]:
    """Return the relative errors, and the number of parameters."""
    return {
        "loss": abs(loss / float(arrays["loss"]) - 1),
        "direction": relative_error(direction, right),
        "parameters": num_parameters(phi),
    }


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose name starts with the prefix, by the rest of the name."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _scores(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean loss and the accuracy, shape [2]."""
    return torch.stack([F.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()])


if __name__ == "__main__":
    pipe = Pipe()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    serve(Loop(chosen_work()), pipe)
