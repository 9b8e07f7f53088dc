"""Patients that are drawn, where the real ones are not on this machine: of the same shape, for a rehearsal only.

Counts, shares of the ill, gaps, means and deviations are those of the published data, by hospital and by whether a
patient is ill. Columns are drawn apart from each other, which those of real patients are not: what is learned here says
nothing about hospitals.
"""

from typing import NamedTuple

import numpy as np

from fedmeta import random
from fedmeta.data.sources.heart import Patients


class Group(NamedTuple):
    """A hospital's healthy or ill patients, by what is published of them.

    `patients` are so many. `numbers` has mean and standard deviation of age, resting pressure, cholesterol, maximum
    heart rate and ST depression; `shares` the shares of men, of high fasting sugar, and of angina under exercise;
    `pain` and `ecg` how many have each category; `gaps` how many have no value, by the place of the column.
    """

    patients: int
    numbers: tuple[tuple[float, float], ...]
    shares: tuple[float, float, float]
    pain: tuple[int, int, int, int]
    ecg: tuple[int, int, int]
    gaps: dict[int, int]


_NO_VALUE = (250.0, 50.0)
"""Where every value of a column is a gap, this is drawn and thrown away."""
_NUMBERS = (0, 3, 4, 7, 9)
_BOOLEANS = (1, 5, 8)
_LIMITS = ((20.0, 90.0), (80.0, 200.0), (100.0, 600.0), (60.0, 202.0), (-2.6, 6.2))
_DIGITS = (0, 0, 0, 0, 1)
_PAIN, _ECG = 2, 6

PUBLISHED: dict[str, tuple[Group, Group]] = {
    "cleveland": (
        Group(
            164,
            ((53, 9.5), (129, 16), (243, 53), (158, 19), (0.6, 0.8)),
            (0.56, 0.14, 0.14),
            (16, 41, 68, 39),
            (95, 1, 68),
            {},
        ),
        Group(
            139,
            ((57, 7.9), (135, 19), (251, 49), (139, 23), (1.6, 1.3)),
            (0.82, 0.16, 0.55),
            (7, 9, 18, 105),
            (56, 3, 80),
            {},
        ),
    ),
    "budapest": (
        Group(
            188,
            ((47, 7.8), (131, 17), (240, 57), (145, 22), (0.2, 0.5)),
            (0.63, 0.04, 0.1),
            (7, 98, 43, 40),
            (150, 33, 5),
            {3: 1, 4: 18, 5: 6, 7: 1, 8: 1},
        ),
        Group(
            106,
            ((49, 7.5), (136, 19), (269, 80), (129, 23), (1.2, 1.0)),
            (0.89, 0.13, 0.66),
            (4, 8, 11, 83),
            (85, 19, 1),
            {4: 5, 5: 2, 6: 1},
        ),
    ),
    "zurich": (
        Group(
            8,
            ((55, 9.9), (124, 26), _NO_VALUE, (137, 24), (0.5, 0.9)),
            (1.0, 0.0, 0.13),
            (0, 2, 4, 2),
            (5, 2, 1),
            {4: 8, 5: 7},
        ),
        Group(
            115,
            ((55, 8.9), (131, 22), _NO_VALUE, (121, 26), (0.7, 1.1)),
            (0.91, 0.11, 0.46),
            (4, 2, 13, 96),
            (80, 28, 6),
            {3: 2, 4: 115, 5: 68, 6: 1, 7: 1, 8: 1, 9: 6},
        ),
    ),
    "long-beach": (
        Group(
            51,
            ((57, 9.0), (130, 18), (230, 61), (125, 28), (0.7, 0.9)),
            (0.94, 0.28, 0.38),
            (3, 9, 16, 23),
            (18, 25, 8),
            {3: 19, 4: 13, 5: 1, 7: 19, 8: 19, 9: 21},
        ),
        Group(
            149,
            ((60, 7.2), (136, 18), (243, 49), (122, 20), (1.5, 1.1)),
            (0.98, 0.38, 0.72),
            (5, 5, 31, 108),
            (62, 68, 19),
            {3: 38, 4: 43, 5: 6, 7: 34, 8: 34, 9: 35},
        ),
    ),
}
"""Each hospital's healthy and ill patients, counted from UCI's processed files (CC BY 4.0)."""


def draw(seed: int) -> dict[str, Patients]:
    """Return drawn patients of each hospital, in the order of `PUBLISHED`; the same seed draws the same."""
    found = {}
    for name, groups in PUBLISHED.items():
        generator = random.generator(seed, "stand-in patients", name)
        values = np.concatenate([_group(group, generator) for group in groups])
        ill = np.repeat(np.array([0, 1], np.int32), [group.patients for group in groups])
        order = generator.permutation(len(ill))
        found[name] = Patients(values, ill, np.asarray(~np.isnan(values).any(axis=1))).of(order)
    return found


def _group(group: Group, draw: np.random.Generator) -> np.ndarray:
    values = np.empty((group.patients, 10))
    for column, (mean, std), limits, digits in zip(_NUMBERS, group.numbers, _LIMITS, _DIGITS, strict=True):
        values[:, column] = np.round(np.clip(draw.normal(mean, std, group.patients), *limits), digits)
    for column, share in zip(_BOOLEANS, group.shares, strict=True):
        values[:, column] = draw.random(group.patients) < share
    for column, first, counts in ((_PAIN, 1, group.pain), (_ECG, 0, group.ecg)):
        shares = np.array(counts) / sum(counts)
        values[:, column] = first + draw.choice(len(counts), group.patients, p=shares)
    for column, count in group.gaps.items():
        values[draw.choice(group.patients, count, replace=False), column] = np.nan
    return values
