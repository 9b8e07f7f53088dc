"""The trainer: the only process that reads the member's examples; it has no network and no keys.

It computes one job after another for its core: what a procedure needs, an update, the check of another's update, the
aggregate of a round. What it must import it imports before it becomes its own user.
"""

import socket
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta import data as sets
from fedmeta.data.dataset import FederatedDataset
from fedmeta.errors import DataError, UsageError
from fedmeta.node import scoring, training
from fedmeta.node.aggregation import Exact
from fedmeta.node.errors import BadMemory, MessageRefused, WrongArithmetic
from fedmeta.node.member import config as configs
from fedmeta.node.member.config import Config
from fedmeta.node.member.data import split
from fedmeta.node.member.describing import describe
from fedmeta.node.member.policy import Policy
from fedmeta.node.process import jobs
from fedmeta.node.process.jobs import HALTED
from fedmeta.runs.procedure import Procedure


def serve(arguments: dict[str, Any]) -> int:
    """Do jobs until the core is gone.

    Args:
        arguments: `fd`, the socket to the core; `folder` and `config`, what of `node.toml` concerns the data.
    """
    with socket.socket(fileno=arguments["fd"]) as channel:
        config = configs.of(arguments["config"], Path(arguments["folder"]))
        try:
            Exact.known_answer()
        except WrongArithmetic as error:
            print(f"fedmeta: the trainer: {error}", file=sys.stderr, flush=True)
            return HALTED
        return _serve(config, channel)


def _serve(config: Config, channel: socket.socket) -> int:
    while True:
        try:
            head, blobs = jobs.receive(channel)
        except (EOFError, ConnectionError):
            return 0
        try:
            answer, given = JOBS[head["job"]](config, head, blobs)
        except MessageRefused as error:
            answer, given = {"refused": str(error)}, []
        except Exception as error:  # noqa: BLE001 (also of what nobody has foreseen the core must hear)
            # Others' bytes, and people's files, must not end the node, whatever they are.
            answer, given = {"failed": f"{type(error).__name__}: {error}"}, []
        try:
            jobs.send(channel, answer, given)
        except ConnectionError:
            return 0


def _describe(config: Config, head: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Return the sizes of a procedure's message and state, how few updates it bears, and why the policy refuses it."""
    exact = _exact(blobs[0])
    count = 0
    if head["contributes"]:
        x, _, held = split(config, exact.procedure, head["seat"])
        count = len(x) - int(held.sum())
    values: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in head["policy"].items()
    }
    bounds, described, takes = Policy(**values), describe(exact.procedure), exact.rule.smallest
    answer = {
        "message": exact.message_length,
        "state": exact.state_length,
        "reasons": bounds.reasons(described, count or None),
        "examples": count,
        "smallest": max(bounds.smallest_cohort, takes),
        "takes": takes,
    }
    return answer, []


def _train(config: Config, head: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Return the member's update of a round."""
    exact = _exact(blobs[0])
    done = int(exact.read_state(blobs[1]).round)
    if done >= exact.procedure.rounds:
        raise UsageError(f"the procedure has {exact.procedure.rounds} rounds, and {done} are done: there is no update")
    x, y, held = split(config, exact.procedure, head["seat"])
    own = _client(config, exact.procedure, x[~held], y[~held])
    message = training.train(exact.procedure, own, blobs[1], head["round"], blobs[2])
    return {}, [message]


def _check(config: Config, head: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Refuse a message that is not well formed."""
    _exact(blobs[0]).check(blobs[1])
    return {}, []


def _aggregate(config: Config, head: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Return the next state of exactly these messages, and what this member finds that each is worth.

    The blobs are the procedure, the state, what the scoring of earlier rounds gave, and the messages. The answer has
    `scores`, `unscored` with the reason where they are the same for all, and after the state what the next round's
    scoring is given. Nothing about scores changes the state: it is computed first.
    """
    exact, (state, memory, *messages) = _exact(blobs[0]), blobs[1:]
    after = exact.aggregate(state, messages)
    alike = scoring.alike(head["own"], head["budget"])
    if not head["score"]:
        return {"scores": list(alike), "unscored": ""}, [after, memory]
    asked = scoring.Round(head["round"], tuple(head["members"]), tuple(head["own"]), head["budget"])
    seconds = head["milliseconds"] / 1_000
    try:
        held = _held_out(config, exact.procedure)
        try:
            scores, kept = scoring.score(exact, state, messages, asked, held, memory, seconds=seconds)
        except BadMemory:
            scores, kept = scoring.score(exact, state, messages, asked, held, seconds=seconds)
    except Exception as error:  # noqa: BLE001 (whatever keeps it from scoring must not keep it from the result)
        return {"scores": list(alike), "unscored": f"{type(error).__name__}: {error}"}, [after, memory]
    return {"scores": list(scores), "unscored": ""}, [after, kept]


def _held_out(config: Config, procedure: Procedure) -> FederatedDataset:
    """Return the held-out examples as one client; raises `DataError` where there are too few."""
    if not config.data.paths:
        raise DataError("this member has no examples to score by")
    x, y, held = split(config, procedure, seat=True)
    if not held.any():
        raise DataError(f"of {len(x)} examples too few can be held out to score by: it takes {scoring.SMALLEST}")
    return _client(config, procedure, x[held], y[held])


def _client(config: Config, procedure: Procedure, x: np.ndarray, y: np.ndarray) -> FederatedDataset:
    """Return examples as one client; targets are places in the procedure's classes, and never their names."""
    classes = procedure.inputs.classes
    return sets.from_arrays(
        x, y, np.zeros(len(x), np.int64), classes=len(classes) if classes else None, name=config.member
    )


JOBS = {"describe": _describe, "train": _train, "check": _check, "aggregate": _aggregate}
"""Name to job."""


@lru_cache(maxsize=4)
def _exact(procedure: bytes) -> Exact:
    return Exact(Procedure.from_bytes(procedure))
