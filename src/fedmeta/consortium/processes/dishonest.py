"""A super node that lies in chosen rounds, for a demonstration: it says that the next model is its own update's alone.

It is the real node with two things replaced. Its trainer, in a round that stands in the file `lie` of the trainer's
folder, gives another state than the one that comes out; in all other rounds it does as it should. Its core opens what
it has committed to, whatever the others have opened: an honest one would look at its memory first, and be silent.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedmeta.govern.wire import transactions as tx
from fedmeta.node.process import supervisor

LIE = "lie"
"""The file with the numbers of the rounds in which it lies."""


def arrange() -> None:
    """Let the node that this process starts be one that lies."""
    supervisor.CORE, supervisor.TRAINER = f"{__name__}:core", f"{__name__}:trainer"


def order(folder: Path, rounds: tuple[int, ...]) -> None:
    """Let the node with this trainer's folder lie in these rounds."""
    (folder / LIE).write_text(" ".join(map(str, rounds)))
    (folder / LIE).chmod(0o644)


def lies(folder: Path, round: int) -> bool:
    """Return whether the node with this trainer's folder is to lie in a round."""
    file = folder / LIE
    return file.exists() and str(round) in file.read_text().split()


def core(arguments: dict[str, Any]) -> int:
    """Run a core that opens its commitment in any case."""
    from fedmeta.node.process import core as honest
    from fedmeta.node.reducer import seat

    seat._reveal = _reveal
    return honest.serve(arguments)


def _reveal(memory: Any, view: Any, round: Any) -> Iterator[Any]:
    from fedmeta.node.reducer.actions import Submit

    promise = memory.results.get((round.number, round.attempt))
    mine = view.attestations.get(view.me)
    if promise is not None and mine is not None and not mine.revealed:
        body = tx.Reveal(round.number, round.attempt, promise.result, promise.scores, promise.salt)
        yield ("reveal", round.number, round.attempt), Submit(body)


def trainer(arguments: dict[str, Any]) -> int:
    """Run a trainer that gives another state in chosen rounds."""
    from fedmeta.node.process import trainer as honest

    folder = Path(arguments["folder"]) / "trainer"
    aggregate = honest.JOBS["aggregate"]

    def otherwise(config: Any, head: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        answer, (after, *rest) = aggregate(config, head, blobs)
        if lies(folder, head["round"]):
            procedure, state, _, *messages = blobs
            own = [message for message, mine in zip(messages, head["own"], strict=True) if mine]
            after = honest._exact(procedure).aggregate(state, own) if own else state
        return answer, [after, *rest]

    honest.JOBS["aggregate"] = otherwise
    return honest.serve(arguments)
