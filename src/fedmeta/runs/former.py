"""Run folders of earlier versions: what their run.toml says, in today's form."""

from collections.abc import Mapping
from typing import Any

from fedmeta import algorithms, optimisers
from fedmeta.runs.inputs import Inputs, tuples
from fedmeta.runs.procedure import Procedure

_DATA = {
    "data": "data",
    "client": "client",
    "target": "target",
    "features": "features",
    "data_options": "options",
    "fractions": "fractions",
    "max_evaluated": "max_evaluated",
}
_FLAT = {"data", "algorithm", "server", "server_lr", "validate_every", "inputs"}
_LEARNING = ("model", "model_options", "cohort_size", "support", "seed", "max_examples", "precision")


def upgraded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with a flat recipe split into data, procedure and validation.

    Settings of today come back as they are.

    Raises:
        UsageError: the recipe names something that there is not.
        KeyError, TypeError, AttributeError: the recipe is damaged.
    """
    recipe = settings.get("recipe")
    if not isinstance(recipe, Mapping) or not recipe.keys() >= _FLAT:
        return dict(settings)
    learning = tuples({name: recipe[name] for name in _LEARNING if name in recipe})
    learning["model_options"] = tuples(learning.get("model_options", {}))
    procedure = Procedure(
        algorithm=algorithms.make(recipe["algorithm"], **tuples(recipe.get("algorithm_options", {}))),
        server=optimisers.make(recipe["server"], learning_rate=recipe["server_lr"]),
        inputs=Inputs.from_dict(recipe["inputs"]),
        rounds=settings["run"]["rounds"],
        **learning,
    )
    today = {
        "data": {new: recipe[old] for old, new in _DATA.items() if old in recipe},
        "procedure": without_rounds(procedure),
        "validation": {"every": recipe["validate_every"]},
    }
    return {**settings, "recipe": today}


def without_rounds(procedure: Procedure) -> dict[str, Any]:
    """Return a procedure as run.toml holds it: the number of rounds stands beside it, and may grow."""
    return {name: value for name, value in procedure.to_dict().items() if name != "rounds"}
