"""What the tests of a member are made of: a configuration's content, a table, and a procedure for it."""

from fedmeta import data, optimisers, transforms
from fedmeta.algorithms import MAML
from fedmeta.node.member import config
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure

GENESIS = "ab" * 32

HEADER = "age,smoker,ill"


def content(**changed):
    """Return the content of a node.toml: keys of sections as `network__proxy`."""
    found = {"member": "coast", "ledger": {"addresses": ["http://127.0.0.1:1"], "genesis": GENESIS}}
    for name, value in changed.items():
        section, _, key = name.rpartition("__")
        (found.setdefault(section, {}) if section else found)[key] = value
    return found


def configured(folder, **changed):
    return config.of(content(**changed), folder)


def rows(count, ill=("yes", "no")):
    return [f"{40 + number},{number % 3 == 0},{ill[number % len(ill)]}" for number in range(count)]


def table(path, count=30, header=HEADER, ill=("yes", "no")):
    path.write_text("\n".join([header, *rows(count, ill)]) + "\n")
    return path


def inputs(folder):
    """Return the inputs of a procedure that was made of a table with the columns of `table`."""
    path = folder / "training.csv"
    path.write_text("\n".join([f"clinic,{HEADER}", *(f"c{at % 4},{row}" for at, row in enumerate(rows(40)))]) + "\n")
    return Inputs.of(data.from_table(str(path), client="clinic", target="ill"))


def procedure(folder, **changed):
    """Return a procedure that the default policy allows."""
    usual = {
        "algorithm": MAML(inner_steps=3),
        "server": optimisers.sgd(0.1),
        "transform": transforms.chain(transforms.clip_by_norm(1.0), transforms.fixed_point()),
        "model": "mlp",
        "model_options": {"hidden": (8,)},
        "inputs": inputs(folder),
        "rounds": 10,
        "cohort_size": 4,
    }
    return Procedure(**{**usual, **changed})
