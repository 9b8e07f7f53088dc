"""The page on four hospitals: its tables, procedure, ledger and settings fit together, without a federation."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from fedmeta.cli.ledger import federation
from fedmeta.errors import DataError
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.state.records import Term
from fedmeta.govern.wire.signatures import Key
from fedmeta.node import scoring
from fedmeta.node.member import config, policy
from fedmeta.node.member.describing import describe, read_procedure
from tests.node.member.made import content

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(sh|toml|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in BLOCK.finditer((DOCS / "how-to-four-hospitals.md").read_text("utf-8"))]
TOML = [text for kind, text in BLOCKS if kind == "toml"]
FEDERATION, REHEARSAL, POLICY = [
    next(text for text in TOML if text.startswith(key)) for key in ("chain_id", "voting_blocks", "largest_model")
]
SETTINGS = [text for text in TOML if text.startswith("[")]
FILES = {
    "cleveland": "processed.cleveland.data",
    "budapest": "processed.hungarian.data",
    "zurich": "processed.switzerland.data",
    "long-beach": "processed.va.data",
}
ROWS = """63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0
67,0,4,0,0,?,0,?,1,-1.5,2,?,?,4
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the page's two programs were run: table.py is there, and heart.json."""
    place = tmp_path_factory.mktemp("four")
    (made,) = [text for kind, text in BLOCKS if kind == "sh" and "cat > table.py" in text]
    subprocess.run(["bash", "-e", "-c", made], cwd=place, check=True)
    (study,) = [text for kind, text in BLOCKS if kind == "python"]
    before = Path.cwd()
    os.chdir(place)
    try:
        exec(compile(study, "study.py", "exec"), {"__name__": "__main__"})
    finally:
        os.chdir(before)
    return place


def table(folder, file, name):
    said = subprocess.run([sys.executable, "table.py", str(file)], cwd=folder, check=True, capture_output=True)
    (folder / f"{name}.csv").write_bytes(said.stdout)
    return folder / f"{name}.csv"


def test_a_file_of_uci_becomes_the_table_that_the_procedure_reads(folder):
    (folder / "processed.some.data").write_text(ROWS)
    file = table(folder, folder / "processed.some.data", "some")
    x, y = read_procedure(folder / "heart.json").inputs.read(str(file))
    assert y.tolist() == [0, 1]
    assert x[0] == pytest.approx([63, 1, 1, 0, 0, 0, 145, 233, 1, 0, 0, 1, 150, 0, 2.3])
    # Zeros that stand for gaps, and question marks, are blank.
    assert file.read_text().splitlines()[2] == "67,no,asymptomatic,,,,normal,,yes,-1.5,yes"


def test_what_the_page_says_is_refused_is_refused_and_another_word_for_a_category_is_said(folder, caplog):
    (folder / "processed.some.data").write_text(ROWS)
    text = table(folder, folder / "processed.some.data", "some").read_text()
    inputs = read_procedure(folder / "heart.json").inputs

    def read(changed):
        (folder / "changed.csv").write_text(changed)
        return inputs.read(str(folder / "changed.csv"))

    with pytest.raises(DataError, match="no column 'cholesterol'"):
        read(text.replace("cholesterol", "chol"))
    with pytest.raises(DataError, match="'male' holds '1' in line 2"):
        read(text.replace("63.0,yes", "63.0,1"))
    x, _ = read(text.replace("typical angina", "1"))
    assert not x[0, 2:6].any()
    assert "'chest_pain' holds '1'" in caplog.text


@pytest.mark.parametrize("name", FILES)
def test_the_policy_of_the_page_lets_each_real_hospital_take_part(folder, name):
    places = [Path(one) / "heart" / FILES[name] for one in os.environ.get("FEDMETA_DATA", "").split(os.pathsep)]
    file = next((one for one in places if one.is_file()), None)
    if file is None:
        pytest.skip(f"{FILES[name]} is in no folder heart of FEDMETA_DATA")
    procedure = read_procedure(folder / "heart.json")
    _, y = procedure.inputs.read(str(table(folder, file, name)))
    held = scoring.held_out(np.asarray(y), 1)
    assert held.sum() >= scoring.SMALLEST
    bounds = policy.of(tomllib.loads(POLICY))
    assert bounds.reasons(describe(procedure), len(y) - int(held.sum())) == []
    assert bounds.reasons(describe(procedure), bounds.smallest_examples - 1) != []
    if name == "zurich":
        assert (len(y), int((y == 0).sum()), len(y) - int(held.sum())) == (123, 8, 92)


def test_the_ledger_of_the_page_has_four_seats_of_which_three_decide(folder):
    text = FEDERATION + REHEARSAL
    procedure = read_procedure(folder / "heart.json")
    for at in range(4):
        text = text.replace('"..."', f'"{Key.from_seed(bytes([at]) * 32).public.hex()}"', 1)
    text = text.replace('"..."', f'"{procedure.digest}"', 1).replace('"..."', f'"{"ab" * 32}"', 1)
    genesis = federation.parse(text.encode(), Path("federation.toml"), 0).genesis
    state = start(genesis).state
    powers = [seat.power for seat in state.need(Term, 1).seats]
    assert len(powers) == 4
    assert len(set(powers)) == 1
    assert 3 * 3 * powers[0] > 2 * sum(powers) >= 3 * 2 * powers[0]
    assert [one.digest.hex() for one in genesis.recipes] == [procedure.digest]


def test_what_the_page_sets_in_node_toml_is_known_there(tmp_path):
    assert len(SETTINGS) == 3
    for one in map(tomllib.loads, SETTINGS):
        found = config.of({**content(), **one}, tmp_path)
        for section, keys in one.items():
            assert set(keys) <= set(getattr(found, section).__dataclass_fields__)


def test_the_page_for_the_clinician_has_the_hospitals_as_they_are():
    rows = re.findall(r"^\| (\S[^|]*) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) % \|$", clinician(), re.MULTILINE)
    assert len(rows) == 4
    for at, (_, patients, ill, healthy, women, right) in enumerate(rows):
        patients, ill, healthy, women = map(int, (patients, ill, healthy, women))
        assert ill + healthy == patients
        assert abs(int(right) - 100 * max(ill, healthy) / patients) <= 0.5
        for one in os.environ.get("FEDMETA_DATA", "").split(os.pathsep):
            file = Path(one) / "heart" / list(FILES.values())[at]
            if file.is_file():
                cells = [line.split(",") for line in file.read_text().split()]
                found = len(cells), sum(row[13] != "0" for row in cells), sum(float(row[1]) == 0 for row in cells)
                assert found == (patients, ill, women)


def clinician():
    return (DOCS / "consortium" / "clinician.md").read_text("utf-8")
