"""Flower's simulation on Ray with PyTorch clients: FedAvg, and FOMAML with Adam at the server.

    build/peers-venv/bin/python benchmarks/peers/flower.py fedavg-softmax

is a worker: see worker.py. One client on each core at a time; the strategy is Flower's FedAvg, and for FOMAML its
mean of the directions goes to PyTorch's Adam. Federated evaluation is off, and so are Flower's log and telemetry.
"""

import logging
import os
from tempfile import TemporaryDirectory
from typing import Any

os.environ |= {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Makes Ray take the loopback address for its own, so that its servers listen nowhere else.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}

import flower_clients
import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch_networks import NETWORKS, softmax_to_fedmeta
from worker import Pipe, chosen_work, serve
from works import SERVER_RATE, Work


def backend(folder: str) -> dict[str, Any]:
    """Return how Flower sets Ray up: its files in this folder, and a client on each core."""
    return {
        "init_args": {"_temp_dir": folder, "object_store_memory": 10**9, "log_to_driver": False},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }


class Adam(FedAvg):
    """Takes the clients' mean as a direction, and steps along it with Adam."""

    def __init__(self, params: list[torch.Tensor], **options):
        super().__init__(**options)
        self.params = params
        self.optimiser = torch.optim.Adam(params, lr=SERVER_RATE, fused=True)

    def aggregate_train(
        self, server_round: int, replies: list[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the directions, and return the parameters after the step."""
        direction, metrics = super().aggregate_train(server_round, replies)
        for param, array in zip(self.params, direction.to_numpy_ndarrays(), strict=True):
            param.grad = torch.from_numpy(array)
        self.optimiser.step()
        return ArrayRecord([param.numpy() for param in self.params]), metrics


class Simulation:
    """The server's side of the work."""

    def __init__(self, work: Work, grid: Grid):
        torch.manual_seed(0)
        self.work, self.grid = work, grid
        params = NETWORKS[work.network].init()
        options = {
            "fraction_train": work.cohort / work.clients,
            "min_train_nodes": work.cohort,
            "fraction_evaluate": 0.0,
        }
        self.strategy = FedAvg(**options) if work.algorithm == "fedavg" else Adam(params, **options)
        self.arrays = ArrayRecord([param.numpy() for param in params])

    def run(self, rounds: int) -> float:
        """Run the rounds; return the last one's mean loss."""
        result = self.strategy.start(
            self.grid, self.arrays, num_rounds=rounds, train_config=ConfigRecord({"work": self.work.name})
        )
        if len(result.train_metrics_clientapp) < rounds:
            raise RuntimeError("clients failed; Ray's log has the reason")
        self.arrays = result.arrays
        return result.train_metrics_clientapp[rounds]["loss"]

    def parameters(self) -> dict[str, np.ndarray]:
        """Return softmax regression's parameters by fedmeta's names."""
        return softmax_to_fedmeta(*(torch.from_numpy(array) for array in self.arrays.to_numpy_ndarrays()))


if __name__ == "__main__":
    pipe = Pipe()
    # Importing the clients set one thread, which is right for theirs and not for the server's process.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    logging.getLogger("flwr").setLevel(logging.ERROR)
    work = chosen_work()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        """Serve the commands for as long as the simulation lives."""
        serve(Simulation(work, grid), pipe)

    with TemporaryDirectory(prefix="ray-") as folder:
        run_simulation(server, flower_clients.app, num_supernodes=work.clients, backend_config=backend(folder))
