"""Flower's side of the clients, in a module of its own so that Ray's processes import it instead of unpickling it."""

from functools import lru_cache

import numpy as np
import synthetic
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor
from torch_loop import batches, descended, first_order_direction
from torch_networks import NETWORKS
from works import WORKS

# Flower runs one client on each core.
torch.set_num_threads(1)

app = ClientApp()


@lru_cache
def _data(work: str) -> tuple[Tensor, Tensor]:
    """Return all clients' examples, read once in each of Ray's processes."""
    x, y = synthetic.load(WORKS[work])
    return torch.from_numpy(x), torch.from_numpy(y)


@lru_cache
def _draw(client: int) -> np.random.Generator:
    return np.random.default_rng(client)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with a client's model (FedAvg) or direction (FOMAML), and its mean loss."""
    work = WORKS[message.content["config"]["work"]]
    client = int(context.node_config["partition-id"])
    draw = _draw(client)
    x, y = _data(work.name)
    order = torch.from_numpy(draw.permutation(work.examples))
    x, y = x[client][order], y[client][order]
    network = NETWORKS[work.network]
    params = [torch.from_numpy(array) for array in message.content["arrays"].to_numpy_ndarrays()]
    if work.algorithm == "fedavg":
        answer, loss = descended(network, work, params, batches(work, x, y, draw))
    else:
        support, query = zip(*(a.split([work.support, work.query]) for a in (x, y)), strict=True)
        answer, loss = first_order_direction(network, work, params, support, query, draw)
    content = RecordDict(
        {
            "arrays": ArrayRecord([tensor.detach().numpy() for tensor in answer]),
            "metrics": MetricRecord({"loss": loss, "num-examples": work.examples}),
        }
    )
    return Message(content=content, reply_to=message)
