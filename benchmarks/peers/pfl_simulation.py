"""pfl's simulation with PyTorch: FedAvg.

    build/peers-venv/bin/python benchmarks/peers/pfl_simulation.py fedavg-softmax

is a worker: see worker.py. Users come in pfl's own recommended order ("minimize_reuse"); the loss is collected on the
way, which is cheaper than pfl's evaluation before and after a user's training.
"""

import os

import numpy as np
import synthetic
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, StringMetricName, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor
from torch_networks import softmax_to_fedmeta
from worker import Pipe, chosen_work, serve
from works import CLASSES, PIXELS, Work

LOSS = StringMetricName("loss")


class Softmax(torch.nn.Module):
    """Softmax regression as pfl wants a module: with `loss` and `metrics`."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(PIXELS, CLASSES)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)
        self.losses: list[Tensor] = []

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, and remember it."""
        loss = torch.nn.functional.cross_entropy(self.linear(x.flatten(1)), y)
        self.losses.append(loss.detach().clone())
        return loss

    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Weighted]:
        """Return no metrics: none is asked for."""
        return {}


class Averaging(FederatedAveraging):
    """pfl's FedAvg, which also returns a user's mean loss."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        """Train on a user's data; return the difference and the mean loss."""
        losses = model.pytorch_model.losses
        losses.clear()
        statistics, _ = super().train_one_user(initial_model_state, model, user_dataset, central_context)
        return statistics, Metrics([(LOSS, Weighted(float(torch.stack(losses).sum()), len(losses)))])


class LastLoss(TrainingProcessCallback):
    """Keeps a round's mean loss."""

    value = 0.0

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Take the loss out of the round's metrics."""
        self.value = float(aggregate_metrics[LOSS].overall_value)
        return False, Metrics()


class Simulation:
    """The backend, the algorithm and the model, kept from one call to the next."""

    def __init__(self, work: Work):
        np.random.seed(0)
        x, y = (torch.from_numpy(array) for array in synthetic.load(work))

        def user(client: int) -> Dataset:
            order = torch.from_numpy(np.random.permutation(work.examples))
            return Dataset((x[client][order], y[client][order]), user_id=str(client))

        users = FederatedDataset(user, get_user_sampler("minimize_reuse", range(work.clients)))
        self.work, self.module, self.last, self.done = work, Softmax(), LastLoss(), 0
        self.model = PyTorchModel(self.module, torch.optim.SGD, torch.optim.SGD(self.module.parameters(), lr=1.0))
        self.backend = SimulatedBackend(training_data=users, val_data=users)
        self.algorithm = Averaging()
        self.training = NNTrainHyperParams(
            local_num_epochs=work.steps * work.batch // work.examples,
            local_learning_rate=work.rate,
            local_batch_size=work.batch,
        )

    def run(self, rounds: int) -> float:
        """Go on for so many rounds; return the last one's mean loss."""
        # pfl evaluates when the frequency divides the number of the round; from the second on, it never does.
        self.done += rounds
        params = NNAlgorithmParams(
            central_num_iterations=self.done,
            evaluation_frequency=10**9,
            train_cohort_size=self.work.cohort,
            val_cohort_size=0,
        )
        self.algorithm.run(
            params,
            self.backend,
            self.model,
            self.training,
            NNEvalHyperParams(local_batch_size=None),
            [self.last],
            send_metrics_to_platform=False,
        )
        return self.last.value

    def parameters(self) -> dict[str, np.ndarray]:
        """Return softmax regression's parameters by fedmeta's names."""
        return softmax_to_fedmeta(self.module.linear.weight, self.module.linear.bias)


if __name__ == "__main__":
    pipe = Pipe()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    serve(Simulation(chosen_work()), pipe)
