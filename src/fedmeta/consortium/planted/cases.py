"""What a planted contributor sends in a round: by what it can see, and what it has on its own."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["honest", "free-rider", "poisoner", "copy"]
"""Honest, without work of its own, harmful, or the same as another's."""


class Sight(NamedTuple):
    """What a contributor can see and do in a round.

    Args:
        round: its number, from 1 on.
        steps: the mean updates of the rounds before, each of shape [numbers]: what the models that are published tell.
        others: the hospitals' updates of the rounds before, each of shape [hospitals, numbers]; who has a seat has seen
            them.
        now: the hospitals' updates of this round, of the same shape.
        honest: trains on the patients that it has, with these labels if some are given.
        labels: of these patients.
        shuffled: the same, dealt out anew.
        own: the updates that it has kept for itself.
        draw: its own draws.
        copied: the hospital whose patients it has.
        longest: the largest norm of an update.
    """

    round: int
    steps: list[np.ndarray]
    others: list[np.ndarray]
    now: np.ndarray
    honest: Callable[..., np.ndarray]
    labels: np.ndarray
    shuffled: np.ndarray
    own: list[np.ndarray]
    draw: np.random.Generator
    copied: int
    longest: float

    @property
    def zero(self) -> np.ndarray:
        """Zeros."""
        return np.zeros_like(self.now[0])

    @property
    def last(self) -> np.ndarray:
        """The last step that was published; zeros in the first round."""
        return self.steps[-1] if self.steps else self.zero

    @property
    def noise(self) -> np.ndarray:
        """Normal noise, as long as the median honest update."""
        return self.as_long(self.draw.normal(size=self.zero.shape))

    def as_long(self, vector: np.ndarray) -> np.ndarray:
        """Return a vector as long as the median honest update."""
        length = np.linalg.norm(vector)
        return vector * (np.median(np.linalg.norm(self.now, axis=1)) / length if length else 0.0)

    def as_long_as_may_be(self, vector: np.ndarray) -> np.ndarray:
        """Return a vector as long as the procedure's clipping leaves one."""
        return vector * (self.longest / max(float(np.linalg.norm(vector)), 1e-12))

    def mixed(self, rounds: tuple[int, ...]) -> np.ndarray:
        """Return a mix of others' updates, one of each of so many rounds ago."""
        parts = [
            self.draw.random() * self.others[-age][self.draw.integers(len(self.now))]
            for age in rounds
            if len(self.others) >= age
        ]
        return self.as_long(sum(parts, self.zero))

    def kept(self, every: int | None) -> np.ndarray:
        """Return an honest update that is made anew every so many rounds, or once only."""
        if not self.own or (every is not None and self.round % every == 1):
            self.own.append(self.honest())
        return self.own[-1]


class Case(NamedTuple):
    """A planted contributor: its kind, what it does in a few words, and what it sends in a round."""

    kind: Kind
    title: str
    send: Callable[[Sight], np.ndarray]


CASES: dict[str, Case] = {
    "honest": Case("honest", "honest, on another's patients", lambda s: s.honest()),
    "zeros": Case("free-rider", "zeros", lambda s: s.zero),
    "noise": Case("free-rider", "noise", lambda s: s.noise),
    "long-noise": Case("free-rider", "noise as long as is allowed", lambda s: s.as_long_as_may_be(s.noise)),
    "last-step": Case("free-rider", "the last step again", lambda s: s.last),
    "last-five": Case("free-rider", "a mix of the last five steps", lambda s: s.as_long(sum(s.steps[-5:], s.zero))),
    "older-steps": Case(
        "free-rider", "a mix of steps, 4 to 8 rounds old", lambda s: s.as_long(sum(s.steps[-8:-3], s.zero))
    ),
    "others-recent": Case("free-rider", "others' updates, 1 or 2 rounds old", lambda s: s.mixed((1, 1, 2, 2))),
    "others-older": Case("free-rider", "others' updates, 4 to 6 rounds old", lambda s: s.mixed((4, 4, 5, 6))),
    "step-and-noise": Case(
        "free-rider", "the last step and as much noise", lambda s: 0.7 * s.as_long(s.last) + 0.7 * s.noise
    ),
    "half-step": Case(
        "free-rider",
        "half of the last step's numbers",
        lambda s: s.as_long(s.last * (s.draw.random(len(s.zero)) < 0.5)),
    ),
    "once": Case("free-rider", "one honest update again and again", lambda s: s.kept(None)),
    "every-third": Case("free-rider", "honest every third round only", lambda s: s.kept(3)),
    "sign-flip": Case("poisoner", "sign flip", lambda s: -s.honest()),
    "scaling": Case("poisoner", "scaling to the clipping norm", lambda s: s.as_long_as_may_be(s.honest())),
    "label-flip": Case("poisoner", "label flip", lambda s: s.honest(1 - s.labels)),
    "shuffled": Case("poisoner", "shuffled labels", lambda s: s.honest(s.shuffled)),
    "duplicate": Case("copy", "a duplicate of a hospital's update", lambda s: s.now[s.copied].copy()),
}
"""What the fifth contributor is."""
