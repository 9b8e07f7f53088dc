"""The works: what every system does in a round, in the same numbers for all of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "build" / "bench"

CLASSES = 62
VOCABULARY = 80
CHARACTERS = 80
PIXELS = 784
FEATURES = 8
GROUPS = 4
"""The inputs and the classes of the tiny model."""
HIDDEN = 64
"""The units of the multi-layer perceptron's hidden layer."""

SERVER_RATE = 1e-3
"""Adam's rate at the server, for all but FedAvg, which averages."""


@dataclass(frozen=True)
class Work:
    """One row of the comparison.

    Args:
        name: its name on the command line.
        title: its name for people.
        network: "cnn", "lstm", "softmax", "mlp", or "tiny" for softmax regression on what the clients' inputs are.
        algorithm: "maml", "meta-sgd", "fomaml" or "fedavg".
        peers: the systems that do it beside fedmeta.
        clients: how many clients the data have.
        cohort: clients in a round; all of them in an evaluation.
        support: a client's support examples.
        query: a client's query examples. FedAvg trains on support and query.
        steps: gradient steps of a client.
        batch: examples in a step, drawn without replacement within a pass; None takes all.
        rate: the rate of a client's gradient descent.
        task: whether a round trains, or evaluates all clients once before and once after adaptation.
        hidden: the units of the perceptron's hidden layer.
        precision: fedmeta's.
        plan: fedmeta's, as its command line takes it; None lets it choose.
        folder: a stored data set in the place of drawn clients.
    """

    name: str
    title: str
    network: Literal["cnn", "lstm", "softmax", "mlp", "tiny"]
    algorithm: Literal["maml", "meta-sgd", "fomaml", "fedavg"]
    peers: tuple[str, ...]
    clients: int
    cohort: int
    support: int
    query: int
    steps: int = 1
    batch: int | None = None
    rate: float = 0.01
    task: Literal["train", "evaluate"] = "train"
    hidden: int = HIDDEN
    precision: Literal["float32", "bfloat16"] = "float32"
    plan: str | None = None
    folder: str | None = None

    @property
    def examples(self) -> int:
        """A client's examples."""
        return self.support + self.query

    @property
    def to_check(self) -> "Work":
        """The work as results are compared: all examples in each step, and few steps.

        After more steps rounding can decide whether a unit is on the one or the other side of ReLU's kink, which
        moves the direction by a percent.
        """
        return replace(self, batch=None, steps=min(self.steps, 3))


WORKS = {
    work.name: work
    for work in (
        Work("maml-cnn", "exact MAML, CNN", "cnn", "maml", ("torch-loop", "torch-func"), 50, 4, 20, 20),
        Work("maml-cnn-5", "exact MAML, CNN, 5 steps", "cnn", "maml", ("torch-loop",), 50, 4, 20, 20, 5, 10),
        Work("maml-lstm", "exact MAML, LSTM", "lstm", "maml", ("torch-loop",), 50, 4, 20, 20, rate=0.1),
        Work("meta-sgd-cnn", "Meta-SGD, CNN", "cnn", "meta-sgd", ("torch-loop",), 50, 4, 20, 20),
        Work("meta-sgd-lstm", "Meta-SGD, LSTM", "lstm", "meta-sgd", ("torch-loop",), 50, 4, 20, 20, rate=0.1),
        Work("fomaml-cnn", "FOMAML, CNN, 5 passes", "cnn", "fomaml", ("torch-loop", "flower"), 50, 4, 20, 80, 10, 10),
        Work(
            "fedavg-softmax",
            "FedAvg, softmax regression",
            "softmax",
            "fedavg",
            ("torch-loop", "torch-func", "flower", "pfl", "fedjax"),
            100,
            10,
            25,
            25,
            5,
            10,
            0.1,
        ),
        Work(
            "evaluate-cnn",
            "evaluation with adaptation, CNN",
            "cnn",
            "maml",
            ("torch-loop",),
            100,
            100,
            20,
            20,
            task="evaluate",
        ),
        Work(
            "maml-mlp",
            "exact MAML, perceptron, 64 small clients",
            "mlp",
            "maml",
            ("torch-loop", "torch-func"),
            200,
            64,
            10,
            10,
            rate=0.1,
        ),
    )
}
