"""The page on four hospitals and a newcomer, played as it stands: real nodes, each on a host of its own on loopback.

The patients are the real ones where they are at hand, else drawn ones; both are written as UCI has its files.
"""

import csv
import re
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fedmeta.consortium import stand_in
from fedmeta.data import locate
from fedmeta.data.sources import heart
from fedmeta.errors import DataError
from tests.cli import played
from tests.cli.played import HASH, Hosts
from tests.examples import in_soak

PAGE = Path(__file__).parents[2] / "docs" / "how-to-four-hospitals.md"
MEMBERS = tuple(heart.HOSPITALS)
FOUNDER, NEWCOMER = "cleveland", "river"
WHO = {"each hospital": MEMBERS, "the founder": (FOUNDER,), "Cleveland": (FOUNDER,), "River Clinic": (NEWCOMER,)}
HANDED_ON = {
    "mv others.csv": (("river.csv", "river-new.csv"), (NEWCOMER,)),
    "python3 study.py": (("heart.json", "first.model"), MEMBERS),
    "ledger init": (("fed/genesis.cbor",), (*MEMBERS, NEWCOMER)),
}
"""Which files the founder gives to whom, by what stands in the step after which it does."""
GOES_ON = ("fedmeta ledger serve", "fedmeta node start")
WRONG = re.compile(r"^\| ([^|]+) \| (`[^|]+`) \|$", re.MULTILINE)
"""A row of the page's table of what is wrong with patients' tables, and what `check` says."""

# The tables in which something is wrong, by the first cell of the page's rows.


def _in_column(name, words):
    def damage(text):
        head, *rows = [line.split(",") for line in text.splitlines()]
        at = head.index(name)
        for row in rows:
            row[at] = row[at] and words(row[at])
        return "\n".join(",".join(row) for row in (head, *rows)) + "\n"

    return damage


PAIN = ("typical angina", "atypical angina", "non-anginal pain", "asymptomatic")
DAMAGE = {
    "the column `cholesterol` is called `chol`": lambda text: text.replace("cholesterol", "chol", 1),
    "`male` is written `m` and `f`": _in_column("male", {"yes": "m", "no": "f"}.get),
    "`chest_pain` is written `1` to `4`": _in_column("chest_pain", lambda cell: str(PAIN.index(cell) + 1)),
    "`cholesterol` is in mmol/l": _in_column("cholesterol", lambda cell: f"{float(cell) / 38.67:.2f}"),
    "there are 59 patients": lambda text: "".join(text.splitlines(keepends=True)[:60]),
}


def wrong_tables():
    """Return what the page says is wrong, and the pieces of what comes out of `check` then."""
    return {match[1]: re.findall(r"`([^`]+)`", match[2]) for match in WRONG.finditer(PAGE.read_text("utf-8"))}


def check_tables(hosts, name, script):
    """Let a hospital check tables with which something is wrong, then put back its own."""
    file = hosts.place(name) / f"{name}.csv"
    text = file.read_text()
    for what, says in wrong_tables().items():
        file.write_text(DAMAGE[what](text))
        # A long cell goes on in the next line.
        said = " ".join(hosts.play(script, name, code=1).split())
        for one in says:
            assert one in said, (what, said)
    file.write_text(text)


def write_patients(hosts):
    """Put each hospital's file of UCI, or one of drawn patients like it, into its folder, under the hospital's name."""
    try:
        folder = locate.need("heart", heart.FILES)
        texts = {name: (folder / file).read_text() for name, file in heart.HOSPITALS.items()}
    except DataError:
        texts = {name: as_uci(patients) for name, patients in stand_in.draw(1).items()}
    for name, text in texts.items():
        (hosts.place(name) / f"processed.{name}.data").write_text(text)


def as_uci(patients):
    """Return patients as UCI's processed files have them: fourteen columns, `?` for a gap, the diagnosis last."""
    rows = [
        [*("?" if np.isnan(value) else f"{value:g}" for value in values), "?", "?", "?", str(ill)]
        for values, ill in zip(patients.values, patients.ill, strict=True)
    ]
    return "".join(",".join(row) + "\n" for row in rows)


# What a block of TOML on the page is for, by what it begins with.


def _federation(hosts, text):
    hosts.fill(text, HASH.findall((hosts.folder / "study.out").read_text()))


def _for_a_rehearsal(hosts, text):
    with (hosts.place(FOUNDER) / "federation.toml").open("a") as file:
        file.write(text)


def _policy(hosts, text):
    for name in MEMBERS:
        (hosts.place(name) / f"{name}-node" / "policy.toml").write_text(text)


def _settings(hosts, text):
    names = MEMBERS if "[metrics]" in text else (NEWCOMER,)
    for name in names:
        file = hosts.place(name) / f"{name}-node" / "node.toml"
        hosts.edit(file, text, name if name in MEMBERS else None)


TOML = {
    "chain_id": _federation,
    "voting_blocks": _for_a_rehearsal,
    "largest_model": _policy,
    "[network]": _settings,
    "[data]": _settings,
}


def begins(text):
    return text.split("\n", 1)[0].split(" = ")[0]


# The page.


def one_step(hosts, step):
    for name in WHO[step.who]:
        script = hosts.here(step.text, name if name in MEMBERS else None)
        if "--tls" in script:
            script = HASH.sub(hosts.fingerprint(f"{name}-node/keys/tls.pem", name), script)
        if "propose admit" in script:
            script = HASH.sub(hosts.play("fedmeta ledger key public river.pem", NEWCOMER).strip(), script)
        if name == "budapest" and "node check" in script:
            check_tables(hosts, name, script)
        due = step.due if name in (FOUNDER, NEWCOMER) else []
        *before, last = script.strip().splitlines()
        if last.startswith(GOES_ON):
            hosts.play("\n".join(before), name)
            served = last.startswith("fedmeta ledger")
            last += f" --port {hosts.ports['7878']}" if served else ""
            hosts.start("ledger" if served else name, last, due, name)
        else:
            said = hosts.play(script, name, answer="y\n")
            hosts.check(due, said, script)
            if "python3 study.py" in script:
                (hosts.folder / "study.out").write_text(said)
    for after, (files, names) in HANDED_ON.items():
        if after in step.text:
            for name in names:
                for file in files:
                    if hosts.place(FOUNDER) / file != hosts.place(name) / file or "/" in file:
                        shutil.copy(hosts.place(FOUNDER) / file, hosts.place(name))


@pytest.fixture
def hosts():
    # The sockets of a node need short paths.
    folder = Path(tempfile.mkdtemp(prefix="fm"))
    found = Hosts(folder, MEMBERS, (NEWCOMER,), apart=True)
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(folder)


@in_soak
def test_four_hospitals_and_a_newcomer_come_out_as_the_page_says(hosts):
    write_patients(hosts)
    for step in played.steps(PAGE):
        if step.kind == "python":
            (hosts.place(FOUNDER) / "study.py").write_text(step.text)
        elif step.kind == "toml":
            TOML[begins(step.text)](hosts, step.text)
        else:
            one_step(hosts, step)
    with (hosts.place(NEWCOMER) / "river-predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == 30
    for one in predictions:
        no, yes = float(one["probability of no"]), float(one["probability of yes"])
        assert no + yes == pytest.approx(1)
        assert one["prediction"] == ("yes" if yes > no else "no")
    for name in (NEWCOMER, *MEMBERS):
        hosts.stop(name)
    hosts.stop("ledger", signal.SIGINT)


def test_each_block_of_the_page_is_run_written_or_shown_and_says_who_does_it():
    steps = played.steps(PAGE)
    assert {step.kind for step in steps} == {"sh", "toml", "python"}, "what is shown comes after what is run"
    assert {step.who for step in steps if step.kind == "sh"} == set(WHO)
    assert {begins(step.text) for step in steps if step.kind == "toml"} == set(TOML)
    assert all(step.kind == "sh" for step in steps if step.due)
    for after in HANDED_ON:
        assert sum(after in step.text for step in steps) == 1, after
    goes_on = [step.text.strip().splitlines() for step in steps if any(one in step.text for one in GOES_ON)]
    assert len(goes_on) == 3
    assert all(lines[-1].startswith(GOES_ON) for lines in goes_on)


def test_each_row_of_what_is_wrong_with_a_table_is_tried():
    assert set(wrong_tables()) == set(DAMAGE)


def test_drawn_patients_are_written_as_real_ones_are_read(tmp_path):
    drawn = stand_in.draw(1)
    for name, file in heart.HOSPITALS.items():
        (tmp_path / file).write_text(as_uci(drawn[name]))
    for name, patients in heart.read(tmp_path).items():
        assert np.array_equal(patients.values, drawn[name].values, equal_nan=True)
        assert np.array_equal(patients.ill, drawn[name].ill)
