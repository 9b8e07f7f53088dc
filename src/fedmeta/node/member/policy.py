"""What can be approved at all: `policy.toml` in the node's folder. `TABLE` says what each key means."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmeta.node.errors import ConfigError
from fedmeta.node.member import settings
from fedmeta.node.member.settings import key

if TYPE_CHECKING:
    from fedmeta.node.member.describing import Described

FILE = "policy.toml"
"""The name of the file in the node's folder."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds on the procedures that a person of this member may approve."""

    largest_model: int = key("whole", "The most parameters of what is learned", 50_000_000, low=1)
    algorithms: tuple[str, ...] = key(
        "texts", "The algorithms that may be used; all if none are named", (), example=("maml", "fedavg")
    )
    aggregators: tuple[str, ...] = key(
        "texts", "The aggregators that may be used; all if none are named", (), example=("weighted_mean",)
    )
    most_steps: int = key("whole", "The most gradient steps of one update", 1_000, low=1)
    most_rounds: int = key("whole", "The most rounds of a procedure", 10_000, low=1)
    smallest_cohort: int = key("whole", "The fewest members whose updates become one", 3, low=1)
    smallest_examples: int = key(
        "whole", "The fewest examples, such as patients, of this member that may stand behind an update", 20, low=1
    )
    transforms: tuple[str, ...] = key(
        "texts", "What must be done to each update before it leaves", ("clip_by_norm", "fixed_point")
    )

    def reasons(self, procedure: "Described", examples: int | None = None) -> list[str]:
        """Return every reason to refuse a procedure, each with its value and the bound; empty if there is none.

        Args:
            procedure: what it does.
            examples: how many of this member's examples stand behind an update, where that is known.
        """
        found = []
        if procedure.parameters > self.largest_model:
            found.append(f"it learns {procedure.parameters:,} parameters; largest_model is {self.largest_model:,}")
        if self.algorithms and procedure.algorithm not in self.algorithms:
            found.append(f"its algorithm is {procedure.algorithm}; algorithms are {', '.join(self.algorithms)}")
        if self.aggregators and procedure.aggregator not in self.aggregators:
            found.append(f"its aggregator is {procedure.aggregator}; aggregators are {', '.join(self.aggregators)}")
        steps = procedure.steps(examples)
        if steps is not None and steps > self.most_steps:
            found.append(f"an update takes {steps:,} gradient steps; most_steps is {self.most_steps:,}")
        if procedure.rounds > self.most_rounds:
            found.append(f"it has {procedure.rounds:,} rounds; most_rounds is {self.most_rounds:,}")
        if procedure.cohort < self.smallest_cohort:
            found.append(f"its cohort is {procedure.cohort}; smallest_cohort is {self.smallest_cohort}")
        missing = [name for name in self.transforms if name not in procedure.transforms]
        if missing:
            has = ", ".join(procedure.transforms) or "none"
            found.append(f"its updates are not treated by {', '.join(missing)}: its transforms are {has}")
        bounds = [bound for bound in (procedure.most_examples, examples) if bound is not None]
        behind = min(bounds, default=None)
        if behind is not None and behind < self.smallest_examples:
            found.append(f"{behind:,} examples stand behind an update; smallest_examples is {self.smallest_examples:,}")
        return found


SECTIONS: dict[str, type] = {"": Policy}

TABLE = settings.rows(SECTIONS)
"""Every key of `policy.toml`."""

_TITLE = """What can be approved at all. `fedmeta node approve` refuses whatever is beyond these bounds, and the node
takes no duty for it. Lines that begin with # are comments: keys in them have the default that is shown, or an
example."""


def read(folder: Path) -> Policy:
    """Return the policy in a node's folder; raises `ConfigError`, which names the file and the key."""
    file = folder / FILE
    return of(settings.read_toml(file), str(file))


def of(content: Mapping[str, Any], file: str = FILE) -> Policy:
    """Return the policy that the content of a TOML file describes; raises `ConfigError`."""
    policy = Policy(**settings.parse(content, SECTIONS, file)[""])
    from fedmeta.aggregators import AGGREGATORS
    from fedmeta.algorithms import ALGORITHMS
    from fedmeta.errors import nearest
    from fedmeta.transforms import TRANSFORMS

    tables = {"algorithms": ALGORITHMS, "aggregators": AGGREGATORS, "transforms": TRANSFORMS}
    for name, known in tables.items():
        for one in getattr(policy, name):
            if one not in known:
                raise ConfigError(f"{file}: {name} has {one!r:.60}, which there is not: {nearest(one, known)}")
    return policy


def template() -> str:
    """Return a commented `policy.toml`, in which every key has its default."""
    values = {row.name: row.default for row in TABLE if row.default != ()}
    return settings.template(_TITLE, SECTIONS, values, {})


def page() -> str:
    """Return the table of all keys, in Markdown."""
    return settings.page(SECTIONS)
