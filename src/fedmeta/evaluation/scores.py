"""The results of an evaluation: the clients' scores before and after they adapt."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fedmeta._extras import need
from fedmeta.errors import UsageError
from fedmeta.evaluation.figures import Difference, Figures, figures, finite


@dataclass(frozen=True, eq=False)
class Scores:
    """How well the clients' models do on their query examples, at one point of adaptation.

    Args:
        values: by metric ("loss" among them), each client's mean, shape [clients].
        examples: each client's query examples, shape [clients].
    """

    values: Mapping[str, np.ndarray]
    examples: np.ndarray

    @cached_property
    def pooled(self) -> dict[str, float]:
        """Each metric's mean over all data points."""
        return {name: float(np.average(values, weights=self.examples)) for name, values in self.values.items()}

    @cached_property
    def by_client(self) -> dict[str, float]:
        """Each metric's mean over clients, in which every client counts the same."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}

    @property
    def judged_by(self) -> str:
        """The metric behind `deciles`, `std` and `bottom_10_percent`: accuracy, or the loss if there is no accuracy."""
        return "accuracy" if "accuracy" in self.values else "loss"

    @property
    def accuracy(self) -> float:
        """Accuracy over all data points, in [0, 1]."""
        return self._named(self.pooled)

    @property
    def client_accuracy(self) -> float:
        """The mean of the clients' accuracies, in [0, 1]."""
        return self._named(self.by_client)

    @property
    def deciles(self) -> np.ndarray:
        """The 0th, 10th, ..., 100th percentile over clients, shape [11]."""
        return np.percentile(self.values[self.judged_by], np.arange(0, 101, 10))

    @property
    def std(self) -> float:
        """The standard deviation over clients."""
        return float(np.std(self.values[self.judged_by]))

    @property
    def bottom_10_percent(self) -> float:
        """The mean over the worst tenth of the clients (at least one client)."""
        values = np.sort(self.values[self.judged_by])
        worst = math.ceil(len(values) / 10)
        return float(np.mean(values[:worst] if self.judged_by == "accuracy" else values[-worst:]))

    def _named(self, means: Mapping[str, float]) -> float:
        if "accuracy" not in means:
            raise AttributeError(f"the model measures no accuracy; it has {', '.join(means)} (see .pooled, .by_client)")
        return means["accuracy"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was answered to the query examples, each a tuple with an array (or a pytree of them) for each client.

    Args:
        y: the targets, shape [query, ...].
        before: the model's predictions before adaptation, shape [query, ...].
        after: those after it.
    """

    y: tuple[np.ndarray, ...]
    before: tuple[Any, ...]
    after: tuple[Any, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The evaluation of phi on clients that took no part in training.

    Args:
        before: the scores before adaptation.
        after: the scores after adaptation; the same as before for an algorithm that does not adapt.
        clients: the clients' names.
        support_examples: each client's support examples, shape [clients].
        steps: the scores before adaptation and after each step, or empty if no curve was asked for.
        left_out: clients too small to have both a support and a query example.
        predictions: what was answered, if it was kept.
    """

    before: Scores
    after: Scores
    clients: tuple[str, ...]
    support_examples: np.ndarray
    steps: tuple[Scores, ...]
    left_out: int
    predictions: Predictions | None = None

    @cached_property
    def figures(self) -> Figures:
        """The figures after adaptation, from all predictions: AUROC, log loss, RMSE and the like.

        Raises:
            UsageError: the predictions were not kept, or are of a form that has no such figures.
        """
        kept = self._kept()
        return figures(kept.y, kept.after)

    @cached_property
    def figures_before(self) -> Figures:
        """The figures before adaptation, likewise."""
        kept = self._kept()
        return figures(kept.y, kept.before)

    @property
    def gain(self) -> Difference:
        """What adapting changes of a client's `figures.headline` in the mean, each client counting the same."""
        name = self.figures.headline
        return Difference.between(self.figures.each[name], self.figures_before.each[name])

    def _kept(self) -> Predictions:
        if self.predictions is None:
            raise UsageError("figures need the predictions: fm.evaluate(..., predictions=True) keeps them")
        return self.predictions

    @property
    def accuracy(self) -> float:
        """Accuracy after adaptation over all data points, in [0, 1]."""
        return self.after.accuracy

    @property
    def client_accuracy(self) -> float:
        """The mean over clients of the accuracy after adaptation, in [0, 1]."""
        return self.after.client_accuracy

    @property
    def deciles(self) -> np.ndarray:
        """The deciles over clients after adaptation, shape [11]."""
        return self.after.deciles

    @property
    def std(self) -> float:
        """The standard deviation over clients after adaptation."""
        return self.after.std

    @property
    def bottom_10_percent(self) -> float:
        """The mean over the worst tenth of the clients after adaptation."""
        return self.after.bottom_10_percent

    @property
    def per_client(self) -> Any:
        """A pyarrow table, one row a client: its examples, and each metric before and after adaptation.

        Raises:
            MissingPackage: the extra `tables` is not installed.
        """
        return need("pyarrow", "a table of clients").table(self._per_client())

    def per_client_csv(self) -> str:
        """Return the same table as CSV, with a line of names first; it needs no other package."""
        columns = self._per_client()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return text.getvalue()

    def _per_client(self) -> dict[str, Any]:
        columns: dict[str, Any] = {
            "client": list(self.clients),
            "support": self.support_examples,
            "query": self.after.examples,
        }
        for name, values in self.after.values.items():
            columns |= {f"{name}_before": self.before.values[name], name: values}
        return columns

    @property
    def curve(self) -> Any:
        """A pyarrow table, one row for each adaptation step from 0: each metric over data points, and over clients.

        Raises:
            MissingPackage: the extra `tables` is not installed.
        """
        return need("pyarrow", "the curve as a table").Table.from_pylist(self._curve())

    def _curve(self) -> list[dict[str, Any]]:
        rows = []
        for number, scores in enumerate(self.steps):
            by_client = {f"client_{name}": value for name, value in scores.by_client.items()}
            rows.append({"step": number, **scores.pooled, **by_client})
        return rows

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them; a figure that is not finite is None."""
        return {
            "clients": len(self.clients),
            "left_out": self.left_out,
            "query_examples": int(self.after.examples.sum()),
            **{
                point: {
                    "over_examples": {name: finite(value) for name, value in scores.pooled.items()},
                    "over_clients": {name: finite(value) for name, value in scores.by_client.items()},
                    "std": finite(scores.std),
                    "deciles": [finite(value) for value in scores.deciles.tolist()],
                    "bottom_10_percent": finite(scores.bottom_10_percent),
                }
                for point, scores in (("before", self.before), ("after", self.after))
            },
            "curve": [{name: finite(value) for name, value in row.items()} for row in self._curve()]
            if self.steps
            else [],
            **self._figures(),
        }

    def _figures(self) -> dict[str, Any]:
        if self.predictions is None:
            return {}
        return {
            "figures": {"before": self.figures_before.summary(), "after": self.figures.summary()},
            "gain": {self.figures.headline: self.gain.summary()},
        }

    def __repr__(self) -> str:
        name = self.after.judged_by
        lines = [
            f"{'1 client' if len(self.clients) == 1 else f'{len(self.clients):,} clients'}, "
            f"{int(self.after.examples.sum()):,} query examples"
            + (f"; {self.left_out} clients with fewer than two examples left out" if self.left_out else "")
        ]
        width = max(map(len, self.after.pooled))
        for metric, value in sorted(self.after.pooled.items(), key=lambda pair: pair[0] != name):
            lines.append(
                f"{metric:<{width}}  {self.before.pooled[metric]:.4g} -> {value:.4g} as clients adapt; "
                f"mean of clients {self.before.by_client[metric]:.4g} -> {self.after.by_client[metric]:.4g}"
            )
        return "\n".join(lines)
