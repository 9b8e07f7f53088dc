import pytest
from filelock import FileLock

TABLE = ("--client", "user", "--target", "label")
DIGITS = ("train", "--data", "digits", "--algorithm", "maml", "--rounds", 2)

MISUSE = {
    "a study that is not there": (("study", "run", "nowhere.toml"), "nowhere.toml"),
    "a folder without a study": (("study", "report", "nowhere"), "study.parquet"),
    "an unknown command": (("trian",), "train"),
    "an unknown option": ((*DIGITS, "--round", 3), "--rounds"),
    "an unknown algorithm": (("train", "--data", "digits", "--algorithm", "mamal"), "maml"),
    "an unknown data set": (("train", "--data", "digit", "--algorithm", "maml"), "digits"),
    "an unknown model": ((*DIGITS, "--model", "mpl"), "mlp"),
    "an unknown option of a model": ((*DIGITS, "--model", "mlp", "--model-option", "hiden=3"), "hidden"),
    "a layer without units": ((*DIGITS, "--model", "mlp", "--model-option", "hidden=8,0"), "hidden must be at least 1"),
    "an option without a number": ((*DIGITS, "--model-option", "hidden=x"), "hidden=64"),
    "an unknown server optimiser": ((*DIGITS, "--server", "adan", "--server-lr", 1), "adam"),
    "a server optimiser without its rate": ((*DIGITS, "--server", "sgd"), "--server-lr"),
    "a network that does not fit": ((*DIGITS, "--model", "leaf_cnn"), "(28, 28, 1)"),
    "a model of text for pixels": ((*DIGITS, "--model", "char_lstm"), "characters"),
    "a support fraction of 1": ((*DIGITS, "--support", 1), "between 0 and 1"),
    "a negative support fraction": ((*DIGITS, "--support", -0.1), "between 0 and 1"),
    "no rounds": (("train", "--data", "digits", "--algorithm", "maml", "--rounds", 0), "rounds"),
    "too large a cohort": ((*DIGITS, "--cohort-size", 1000), "cohort_size"),
    "a rate that is not positive": ((*DIGITS, "--inner-lr", 0), "inner_lr"),
    "steps and epochs": ((*DIGITS, "--inner-steps", 1, "--inner-epochs", 1), "epochs"),
    "columns without a table": ((*DIGITS, *TABLE), "--client"),
    "named features without a table": ((*DIGITS, "--features", "a,b"), "--features"),
    "too many classes per client": ((*DIGITS, "--classes-per-client", 11), "classes"),
    "an unknown transform": ((*DIGITS, "--transform", "quantize:bits=8"), "quantise"),
    "an unknown aggregator": ((*DIGITS, "--aggregator", "median"), "coordinate_median"),
    "an aggregator's fraction out of range": ((*DIGITS, "--aggregator", "trimmed_mean:fraction=0.6"), "0.6"),
    "an option that the algorithm does not have": ((*DIGITS, "--algorithm-option", "mu=0.1"), "mu"),
    "an algorithm inside that there is not": (
        ("train", "--data", "digits", "--algorithm", "per-fedavg", "--algorithm-option", "of=mamal"),
        "maml",
    ),
    "SCAFFOLD with another server": (
        ("train", "--data", "digits", "--algorithm", "scaffold", "--server", "adam", "--server-lr", 0.1),
        "fm.optimisers.sgd(1.0)",
    ),
    "a network without a head": (
        ("train", "--data", "digits", "--algorithm", "anil", "--model", "softmax_regression"),
        "adaptable",
    ),
    "two fractions": ((*DIGITS, "--fractions", "0.5,0.5"), "three positive numbers"),
    "a fraction that is no number": ((*DIGITS, "--fractions", "half,0.2,0.2"), "0.6,0.2,0.2"),
    "an unknown test client": ((*DIGITS, "--test-clients", "client-1"), "did you mean 'client-"),
    "a client in two groups": (
        (*DIGITS, "--test-clients", "client-01", "--validation-clients", "client-01"),
        "'client-01' is named for validation and for the test",
    ),
    "no patience": ((*DIGITS, "--patience", 0), "patience must be at least 1"),
    "a figure without patience": ((*DIGITS, "--monitor", "loss"), "patience"),
    "the last round, and patience": ((*DIGITS, "--select", "last", "--patience", "3"), "keeps the best state"),
    "no looks": ((*DIGITS, "--validate-every", 0), "validate_every must be at least 1"),
    "one example per client": ((*DIGITS, "--max-examples", 1), "max_examples"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_one_line_that_says_what_is_right_and_writes_nothing(fedmeta, tmp_path, case):
    arguments, says = MISUSE[case]
    out = () if arguments[0] != "train" else ("--out", tmp_path / "run")
    done = fedmeta(*arguments, *out)
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert says in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("data", "info", "FILE", "--client", "h\udcdf", "--target", "y"),
        ("train", "--data", "h\udcdf.csv", *TABLE, "--algorithm", "maml", "--out", "OUT"),
        ("train", "--data", "digits", "--algorithm", "maml", "--out", "OUT/h\udcdf"),
        ("train", "--data", "digits", "--algorithm", "h\udcdf", "--out", "OUT"),
        ("compare", "--data", "digits", "--out", "h\udcdf"),
        ("resume", "h\udcdf"),
        ("evaluate", "h\udcdf"),
        ("adapt", "h\udcdf", "--examples", "FILE"),
        ("predict", "FILE", "--examples", "h\udcdf"),
        ("ledger", "status", "--node", "h\udcdf"),
        ("h\udcdf",),
        ("--h\udcdf",),
    ],
    ids=" ".join,
)
def test_an_argument_that_is_not_utf8_is_one_line(fedmeta, shop, tmp_path, words):
    """A shell passes on any bytes; Python has those that are not UTF-8 as halves of surrogate pairs."""
    before = sorted(tmp_path.iterdir())
    done = fedmeta(*(word.replace("FILE", str(shop)).replace("OUT", str(tmp_path / "run")) for word in words))
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("fedmeta: the argument ")
    assert done.err.endswith("h\\xdf is not UTF-8: give names and paths in UTF-8\n") or "h\\xdf.csv is not" in done.err
    assert sorted(tmp_path.iterdir()) == before


BAD_TABLES = {
    "a missing client column": ("usr,a,label\nx,1,p\ny,2,q\n", ("'user'", "did you mean 'usr'?"), 2),
    "text among numbers": ("user,a,label\nx,1,p\nx,two,q\ny,3,p\n", ("column 'a'", "'two' in line 3"), 1),
    "a missing target": ("user,a,label\nx,1,p\nx,2,\ny,3,q\n", ("column 'label'", "in 1 row (line 3)"), 1),
    "not a number": ("user,a,label\nx,1,p\nx,inf,q\ny,3,p\n", ("column 'a'", "'inf' in line 3"), 1),
    "no rows": ("user,a,label\n", ("has no rows",), 1),
    "a nameless client": ("user,a,label\nx,1,p\n,2,q\ny,3,p\n", ("column 'user'", "empty in 1 row (line 3)"), 1),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_one_line_that_names_the_place_and_writes_nothing(fedmeta, tmp_path, case):
    text, says, code = BAD_TABLES[case]
    (tmp_path / "bad.csv").write_text(text)
    done = fedmeta("train", "--data", tmp_path / "bad.csv", *TABLE, "--algorithm", "maml", "--out", tmp_path / "run")
    assert done.code == code
    assert done.err.count("\n") == 1
    assert [part for part in (*says, "bad.csv") if part not in done.err] == []
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("default")
def test_clients_too_small_are_left_out_aloud(fedmeta, train_shop, shop):
    shop.write_text(shop.read_text() + "".join(f"tiny{number},1,2,true,yes\n" for number in range(30)))
    done, _ = train_shop()
    assert done.code == 0, done.err
    assert "30 of 42 clients have fewer than 2 examples and are left out" in done.err


def test_examples_that_the_model_cannot_take_are_refused(fedmeta, train_shop, tmp_path):
    _, run = train_shop()
    out = tmp_path / "m.safetensors"
    (tmp_path / "label.csv").write_text("spent,visits,member,label\n1,2,true,maybe\n")
    (tmp_path / "column.csv").write_text("spent,visit,member,label\n1,2,true,yes\n")
    (tmp_path / "text.txt").write_text("words")
    for name, says, code in (("label.csv", "maybe", 1), ("column.csv", "visits", 1), ("text.txt", "text", 2)):
        done = fedmeta("adapt", run, "--examples", tmp_path / name, "--out", out)
        assert done.code == code
        assert done.err.count("\n") == 1
        assert says in done.err
    assert fedmeta("adapt", run, "--examples", tmp_path / "none.csv", "--out", out).code == 1
    assert not out.exists()


def test_what_is_not_a_model_or_a_run_is_named(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop()
    assert "adapt" in fedmeta("predict", run / "model.safetensors", "--examples", shop).err
    (tmp_path / "torn").write_bytes((run / "model.safetensors").read_bytes()[:100])
    assert fedmeta("predict", tmp_path / "torn", "--examples", shop).code == 1
    assert fedmeta("predict", tmp_path / "absent", "--examples", shop).code == 1
    for command in (("resume", tmp_path), ("evaluate", tmp_path / "nowhere")):
        done = fedmeta(*command)
        assert done.code == 2
        assert "run.toml" in done.err
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    refused = fedmeta("adapt", run, "--examples", shop, "--out", notes)
    assert refused.code == 2
    assert notes.read_text() == "mine"


def test_a_folder_with_another_run_or_other_things_is_left_alone(fedmeta, train_shop, tmp_path):
    _, run = train_shop()
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != ".lock"}
    other, _ = train_shop("--inner-lr", 0.5)
    assert other.code == 1
    assert "inner_lr" in other.err
    assert other.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != ".lock"} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    refused, _ = train_shop(out="mine")
    assert refused.code == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_run_that_another_process_uses_is_left_alone(fedmeta, train_shop):
    _, run = train_shop()
    before = contents(run)
    with FileLock(run / ".lock"):
        for refused in (train_shop("--rounds", 4)[0], fedmeta("resume", run, "--rounds", 4)):
            assert refused.code == 1
            assert refused.err == f"fedmeta: {run} is in use by another process\n"
    assert contents(run) == before
    assert fedmeta("resume", run, "--rounds", 4).code == 0


def test_a_run_of_another_model_is_neither_gone_on_with_nor_touched(fedmeta, train_shop):
    _, run = train_shop()
    before = contents(run)
    refused, _ = train_shop("--model", "softmax_regression")
    assert refused.code == 1
    assert refused.err == f"fedmeta: {run} holds another run: recipe.procedure.model is 'mlp' there and " + (
        "'softmax_regression' here\n"
    )
    assert contents(run) == before


def test_a_checkpoint_of_another_model_is_refused(fedmeta, train_shop):
    _, run = train_shop()
    _, other = train_shop("--model", "softmax_regression", out="other")
    checkpoint = "checkpoint/state.safetensors"
    (run / checkpoint).write_bytes((other / checkpoint).read_bytes())
    before = contents(run)
    refused = fedmeta("resume", run, "--rounds", 4)
    assert refused.code == 1
    assert refused.err.startswith(f"fedmeta: {run / checkpoint} belongs to another algorithm or model: ")
    assert refused.err.count("\n") == 1
    assert contents(run) == before


def test_a_file_in_the_way_of_what_is_written_is_named_and_kept(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop()
    letter = tmp_path / "letter"
    letter.write_text("dear")
    below = letter / "below"
    for code, done in (
        (2, train_shop(out="letter")[0]),
        (1, train_shop(out="letter/below")[0]),
        (1, fedmeta("adapt", run, "--examples", shop, "--out", below)),
        (1, fedmeta("evaluate", run, "--per-client", below)),
    ):
        assert done.code == code, done.err
        assert done.err.count("\n") == 1
        assert str(letter) in done.err
    assert letter.read_text() == "dear"


def test_a_diverging_run_stops_and_names_client_and_round(fedmeta, train_shop, shop):
    done, run = train_shop("--inner-lr", 1e30, "--inner-steps", 5)
    assert done.code == 1
    assert done.err.strip().splitlines()[-1].startswith("fedmeta: round 1: the update of client 'u")
    assert not (run / "model.safetensors").exists()
    assert (run / "checkpoint" / "state.safetensors").exists()
