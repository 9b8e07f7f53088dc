import json

import numpy as np
import pytest
from click.testing import CliRunner

import fedmeta as fm
from fedmeta.cli.data import BARS, data
from fedmeta.data.sources import mnist
from fedmeta.errors import DataError, UnknownName, UsageError


@pytest.fixture
def run():
    def invoke(*arguments):
        result = CliRunner().invoke(data, arguments, env={"COLUMNS": "80"})
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return invoke


def test_list_names_every_data_set_and_what_to_do(run, empty_cache):
    shown = run("list")
    assert all(name in shown for name in fm.data.names())
    assert "mnist: run `fedmeta data get mnist`" in shown
    entries = json.loads(run("list", "--json"))
    come_along = ("digits", "synthetic")
    assert {entry["name"]: entry["present"] for entry in entries} == {
        name: name in come_along for name in fm.data.names()
    }


def test_info_fits_80_columns_and_counts_every_client(run):
    shown = run("info", "digits")
    assert max(map(len, shown.splitlines())) <= 80
    bars = shown.split("Clients by their number of examples\n")[1].splitlines()
    assert sum(int(line.strip(f"{BARS}\n").split()[1]) for line in bars) == 60
    assert "1,797" in shown


def test_info_as_json_says_what_there_is(run):
    said = json.loads(run("info", "digits", "--json"))
    assert (said["clients"], said["examples"], said["classes"], said["shape"]) == (60, 1797, 10, [64])
    assert said["sizes"]["smallest"] <= said["sizes"]["median"] <= said["sizes"]["largest"]


def test_info_of_a_table_needs_its_columns(run, tmp_path):
    (tmp_path / "t.csv").write_text("c,x,y\na,1,0.5\nb,2,1.5\nb,3,0.0\n")
    assert "regression" in run("info", str(tmp_path / "t.csv"), "--client", "c", "--target", "y")
    with pytest.raises(UsageError, match="--client and --target"):
        run("info", str(tmp_path / "t.csv"))
    with pytest.raises(UsageError, match="not for digits"):
        run("info", "digits", "--client", "c")


def test_info_of_a_folder_is_of_what_was_saved_or_of_leaf(run, tmp_path, small, write_json):
    fm.data.save(small, tmp_path / "stored")
    assert json.loads(run("info", str(tmp_path / "stored"), "--json"))["clients"] == 3
    content = {"users": ["u"], "num_samples": [2], "user_data": {"u": {"x": [[0.5], [1]], "y": [0, 1]}}}
    write_json(tmp_path / "leaf" / "a.json", content)
    assert json.loads(run("info", str(tmp_path / "leaf"), "--json"))["clients"] == 1


def test_info_of_clients_of_very_different_sizes_counts_them_all(run, tmp_path):
    sizes = [1, 2, 5, 5, 40, 1000]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    fm.data.save(fm.data.from_arrays(owners, owners, owners), tmp_path / "set")
    bars = run("info", str(tmp_path / "set")).split("number of examples\n")[1].splitlines()
    assert sum(int(line.split("  ")[-1].split()[0]) for line in bars) == len(sizes)


def test_what_does_not_exist_is_said(run, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        run("info", "digts")
    with pytest.raises(DataError, match="no LEAF data"):
        run("info", str(tmp_path))
    with pytest.raises(UnknownName, match="data set 'cifar'"):
        run("get", "cifar")


def test_get_says_where_the_files_lie(run, empty_cache, monkeypatch):
    def fetch(address, path, sha256, *, gzipped, progress):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
        progress(path.name, 7, 7)

    monkeypatch.setattr(mnist, "fetch", fetch)
    assert run("get", "mnist") == f"mnist is in {empty_cache / 'mnist'}\n"
    assert run("get", "mnist") == f"mnist is there already: {empty_cache / 'mnist'}\n"
    assert "nothing has to be fetched" in run("get", "digits")


@pytest.mark.parametrize("command", [[], ["list"], ["info"], ["schema"], ["get"], ["synthetic"]])
def test_every_help_has_an_example(run, command):
    assert "fedmeta data " in run(*command, "--help").split("Example")[1]


CSV = "c,x,w,y\n" + "".join(f"{'ab'[i % 2]},{i},{'uv'[i // 2 % 2]},{['no', 'yes'][i % 3 // 2]}\n" for i in range(24))
USES = ("--client", "c", "--target", "y")


def test_a_schema_is_shown_written_edited_and_given_back(run, tmp_path):
    (tmp_path / "t.csv").write_text(CSV)
    file = str(tmp_path / "t.csv")
    shown = run("schema", file, *USES)
    assert shown == run("schema", file, *USES)
    out = tmp_path / "t.toml"
    assert f"--schema {out}" in run("schema", file, *USES, "--out", str(out))
    assert out.read_text() == shown
    out.write_text(shown.replace('kind = "category"\nrole = "feature"', 'kind = "text"\nrole = "feature"'))
    assert json.loads(run("info", file, "--schema", str(out), "--json"))["features"] == ["x"]
    with pytest.raises(UsageError, match="digits is no table"):
        run("schema", "digits")


def test_what_is_told_of_a_table_is_heeded(run, tmp_path):
    file = tmp_path / "t.csv"

    def features(*words, text=CSV):
        file.write_text(text)
        return json.loads(run("info", str(file), *USES, "--json", *words))["features"]

    assert features() == ["x", "w = u", "w = v"]
    assert features("--features", "x") == ["x"]
    assert features("--features", "x,w") == features("--features", "x", "--features", "w") == features()
    assert features("--exclude", "w") == ["x"]
    assert features("--kind", "w=text") == ["x"]
    assert features("--separator", ";", text=CSV.replace(",", ";")) == features()
    assert features("--skip-lines", "1-2", text="A\nB\n" + CSV) == features()
    assert features("--names", "c, x, w, y", text=CSV.split("\n", 1)[1]) == features()
    assert features("--missing", "7") == ["x", "x is missing", "w = u", "w = v"]
    for words, said in (
        (("--kind", "w"), "COLUMN=KIND"),
        (("--kind", "w=words"), "COLUMN=KIND"),
        (("--skip-lines", "one"), "numbers of lines"),
        (("--decimal", ";"), "--decimal is"),
    ):
        with pytest.raises(UsageError, match=said):
            features(*words)
