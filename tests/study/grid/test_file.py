from pathlib import Path

import pytest

import fedmeta as fm
from fedmeta.errors import UsageError
from fedmeta.study.dose import Doses
from fedmeta.study.grid.entries import Declared, Tuning
from fedmeta.study.grid.file import Study
from fedmeta.study.spelling import spelled
from tests.study.grid.declared import SMALL, changed


def parsed(*pairs):
    return Study.parse(changed(*pairs), "a.toml", "a")


def test_a_file_is_a_grid_with_what_is_claimed_of_it():
    study = Study.parse(SMALL, "a.toml", "a")
    (entry,) = study.entries
    assert (study.name, study.seeds) == ("a", (0,))
    assert list(entry.procedures) == ["fedavg", "maml"]
    assert entry.supports == (0.2,)
    assert entry.comparisons == (Declared("maml", "fedavg"),)
    assert entry.smallest_effect == 0.01
    recipe = entry.recipe("maml", 0.2, 7)
    assert (recipe.seed, recipe.rounds, recipe.looks.early, recipe.looks.every) == (7, 4, 2, 2)
    assert recipe.algorithm_options["inner_steps"] == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = 1", "sedes = 1", "a.toml.*sedes.*did you mean 'seeds'"),
        ("seeds = 1", "seeds = 0", "seeds is how many"),
        ("seeds = 1", "seeds = [1, 1]", "seeds is how many"),
        ("seeds = 1", "seeds = true", "seeds must be"),
        ("rounds = 4", "ronds = 4", "data.digits.*ronds.*did you mean 'rounds'"),
        ("rounds = 4", "rounds = 4.5", "data.digits.*rounds must be a whole number, not 4.5"),
        ("rounds = 4", "rounds = 0", "data.digits.*rounds must be at least 1"),
        ("rounds = 4", 'rounds = 4\nrun = ["mmal"]', "mmal.*did you mean 'maml'"),
        ("rounds = 4", "rounds = 4\nsupport = [0.2, 0.2]", "support"),
        ("rounds = 4", "rounds = 4\ncompare_at = 0.5", "compare_at = 0.5"),
        ("rounds = 4", "rounds = 4\nsmallest_effect = 0", "smallest_effect"),
        ("rounds = 4", 'rounds = 4\ndeal = "by_clases:clients=9,count=3"', "by_clases.*did you mean"),
        ('source = "digits"', 'source = "digts"', "digts.*did you mean 'digits'"),
        ("early = 2", "erly = 2", "erly.*did you mean 'early'"),
        ("targets = [0.2]", 'targets = ["0.2"]', "targets holds numbers"),
        ('["maml", "fedavg"]', '["maml", "fdavg"]', "fdavg.*did you mean 'fedavg'"),
        ('["maml", "fedavg"]', '["maml", "maml"]', "of two procedures"),
        ('[["maml", "fedavg"]]', '["maml"]', "a comparison is a pair"),
        ('["maml", "fedavg"]', '["maml", "fedavg"], ["fedavg", "maml"]', "declared once"),
        ("inner_steps = 1", "inner_setps = 1", "procedures.maml.*inner_setps"),
        ("[procedures.maml]", "[procedures.mmal]", "mmal"),
        ("[data.digits]", "[data.digits", "no TOML"),
        ('source = "digits"\n', "", "source"),
        ("targets = [0.2]", "targets = [nan]", "targets holds numbers, not nan"),
        ("rounds = 4", "rounds = 4\nevaluate_at = 4", "evaluate_at must be a list, not 4"),
        ("rounds = 4", "rounds = 4\nevaluate_at = [0]", "evaluate_at holds whole numbers from 1 on, not 0"),
        ("rounds = 4", "rounds = 4\nevaluate_at = [0.5]", "evaluate_at holds whole numbers from 1 on, not 0.5"),
        ("rounds = 4", "rounds = 4\nevaluate_at = [true]", "evaluate_at holds whole numbers from 1 on, not True"),
        ("rounds = 4", "rounds = 4\nevaluate_at = [2, 2]", r"evaluate_at holds numbers that differ, not \[2, 2\]"),
        ("rounds = 4", "rounds = 4\nevaluate_at = [2]\ncompare_at = 0.2", r"0\.2 is none of evaluate_at = \[2\.0\]"),
        ("rounds = 4", "rounds = 4\nsupport = [0.2, 0.5]\nevaluate_at = [2]", "or trained with several: not both"),
        ("rounds = 4", "rounds = 4\ndose = [1]", r"dose must be a table, not \[1\]"),
        ("rounds = 4", "rounds = 4\ndose = { step = 3 }", "dose.*step.*did you mean 'steps'"),
        ("rounds = 4", "rounds = 4\ndose = { steps = 0 }", "dose: the steps of a dose are at least 1, not 0"),
        ("rounds = 4", "rounds = 4\ndose = { steps = true }", "dose: steps must be a whole number, not True"),
        ("rounds = 4", "rounds = 4\ndose = { rates = [] }", r"factors above 0, not \[\]"),
        ("rounds = 4", "rounds = 4\ndose = { rates = [-1] }", r"factors above 0, not \[-1\.0\]"),
        ("rounds = 4", "rounds = 4\ndose = { rates = [inf] }", "dose: rates holds numbers, not inf"),
        ("rounds = 4", 'rounds = 4\ndose = { parts = ["haed"] }', r"parts of a dose are of all, head, not \['haed'\]"),
        ("rounds = 4", "rounds = 4\ndose = { parts = [1] }", "dose: parts holds names, not 1"),
        ("rounds = 4", "rounds = 4\ntuning = { floor = 0.5 }", "tuning needs tflops = NUMBER"),
        ("rounds = 4", "rounds = 4\ntuning = { tflops = 0 }", "tuning: tflops must be a number above 0, not 0"),
        ("rounds = 4", "rounds = 4\ntuning = { tflops = inf }", "tuning: tflops must be a number above 0, not inf"),
        ("rounds = 4", "rounds = 4\ntuning = { tflops = nan }", "tuning: tflops must be a number above 0, not nan"),
        ("rounds = 4", 'rounds = 4\ntuning = { tflops = "1" }', "tuning: tflops must be a whole number or a number"),
        ("rounds = 4", "rounds = 4\ntuning = { tflops = 1, floor = 0 }", "floor is a share of the rounds.*not 0"),
        ("rounds = 4", "rounds = 4\ntuning = { tflops = 1, floor = 2 }", "floor is a share of the rounds.*not 2"),
        ("rounds = 4", "rounds = 4\ntuning = { tflops = 1, seed = -1 }", "tuning: seed must be at least 0, not -1"),
        ("rounds = 4", "rounds = 4\ntuning = { tflops = 1, seed = 0 }", "tuning: seed = 0 is one of the study's seeds"),
        (
            "inner_steps = 1 }",
            "inner_steps = 1 }\ngrid = { inner_lr = 0.1 }",
            "inner_lr is a list of values that",
        ),
        ("inner_steps = 1 }", "inner_steps = 1 }\ngrid = { inner_lr = [] }", r"inner_lr is a list.*not \[\]"),
        ("inner_steps = 1 }", "inner_steps = 1 }\ngrid = { inner_lr = [0.1, 0.1] }", "list of values that differ"),
        (
            "inner_steps = 1 }",
            "inner_steps = 1 }\ngrid = { inner_rl = [0.1] }",
            "maml.*inner_rl.*did you mean 'inner_lr'",
        ),
        (
            "inner_steps = 1 }",
            "inner_steps = 1 }\ngrid = { inner_lr = [0.1, -1.0] }",
            "inner_lr must be a positive number",
        ),
        ("inner_steps = 1 }", 'inner_steps = 1 }\ngrid = { server = ["adam"] }', "such as \"adam:0.01\", not 'adam'"),
        ("inner_steps = 1 }", "inner_steps = 1 }\ngrid = { server = [1] }", "such as \"adam:0.01\", not '1'"),
        ("inner_steps = 1 }", 'inner_steps = 1 }\ngrid = { server = ["adma:0.01"] }', "adma.*did you mean 'adam'"),
        ("inner_steps = 1 }", 'inner_steps = 1 }\ngrid = { server = ["adam:-1"] }', "learning_rate of adam.*not -1.0"),
        ("inner_steps = 1 }", 'inner_steps = 1 }\ngrid = { inner = ["adma"] }', "adma.*did you mean 'adam'"),
        ("inner_steps = 1 }", 'inner_steps = 1, inner = "adma" }', "adma.*did you mean 'adam'"),
        ("inner_steps = 1 }", 'inner_steps = 1 }\nalso = "masked"', "also must be a list, not 'masked'"),
        ("inner_steps = 1 }", 'inner_steps = 1 }\nalso = ["maksed"]', "also.*maksed.*did you mean 'masked'"),
        ("[procedures.maml]\n", '[procedures.maml]\nbaseline = "alone"\n', "not trained, so options has no meaning"),
        ("[procedures.maml]\noptions = { inner_steps = 1 }", '[procedures.maml]\nbaseline = "alon"', "mean 'alone'"),
        ("[procedures.maml]\n", '[procedures."../maml"]\n', "a name has no slash.*unlike '../maml'"),
        ("[procedures.maml]\n", '[procedures."maml, masked"]\n', "no comma.*unlike 'maml, masked'"),
        ("[data.digits]", '[data."a/b"]', "data: a name has no slash.*unlike 'a/b'"),
    ],
)
def test_what_is_wrong_is_named(old, new, said):
    with pytest.raises(UsageError, match=said):
        parsed((old, new))


def test_a_fourth_comparison_cannot_be_declared():
    more = "".join(f"\n[procedures.p{n}]\nalgorithm = 'maml'" for n in range(4))
    four = ", ".join(f'["p{n}", "fedavg"]' for n in range(4))
    with pytest.raises(UsageError, match="declares 4 comparisons; at most 3"):
        Study.parse(changed(('["maml", "fedavg"]', four)) + more, "a.toml")


def test_a_data_set_says_its_own_of_a_procedure():
    own = "\n[data.digits.procedures.maml]\nserver_lr = 0.5\noptions = { inner_lr = 0.25 }"
    recipe = Study.parse(SMALL + own, "a.toml").entries[0].recipe("maml", 0.2, 0)
    assert recipe.server_lr == 0.5
    assert (recipe.algorithm_options["inner_lr"], recipe.algorithm_options["inner_steps"]) == (0.25, 1)
    with pytest.raises(UsageError, match="mmal"):
        Study.parse(SMALL + own.replace("maml", "mmal"), "a.toml")


def test_a_file_says_how_models_are_tuned_and_tested():
    text = (
        changed(
            (
                "rounds = 4",
                """rounds = 4
evaluate_at = [2, 4]
compare_at = 4
dose = { rates = [0.3, 1], steps = 5, parts = ["all", "head"] }
tuning = { tflops = 2, floor = 0.5, seed = 99 }""",
            )
        )
        + """
also = ["masked", "prior"]
grid = { inner_lr = [0.1, 0.3], server = ["adam:0.01"] }
[procedures.alone]
baseline = "alone"
"""
    )
    (entry,) = Study.parse(text, "a.toml").entries
    assert entry.tested(0.2) == (2.0, 4.0)
    assert entry.compare_at == 4.0
    assert entry.doses == Doses(rates=(0.3, 1.0), steps=5, parts=("all", "head"))
    assert entry.tuning == Tuning(tflops=2.0, floor=0.5, seed=99)
    assert entry.shown() == ["fedavg", "maml", "maml, masked", "maml, prior", "alone"]
    spec = entry.procedures["maml"]
    assert (spec.also, spec.grid) == (("masked", "prior"), {"inner_lr": (0.1, 0.3), "server": ("adam:0.01",)})
    assert entry.procedures["alone"].baseline == "alone"
    # Of the grid, a recipe has what is tried; the rest is as the file says.
    recipe = entry.recipe("maml", 0.2, 0, settings={"inner_lr": 0.3, "server": "adam:0.01"})
    assert (recipe.server, recipe.server_lr) == ("adam", 0.01)
    assert (recipe.algorithm_options["inner_lr"], recipe.algorithm_options["inner_steps"]) == (0.3, 1)
    # Without any of it, models are tested at the fraction that they are trained with.
    (plain,) = Study.parse(SMALL, "a.toml").entries
    assert (plain.tested(0.2), plain.doses, plain.tuning) == ((0.2,), None, None)


def test_an_optimiser_of_the_clients_is_written_as_on_the_command_line():
    more = """
[procedures.local]
algorithm = "per-fedavg"
options = { local = "momentum:learning_rate=0.1" }
grid = { local = ["adam:learning_rate=0.01"] }
"""
    (entry,) = Study.parse(SMALL + more, "a.toml").entries
    options = entry.recipe("local", 0.2, 0).algorithm_options
    assert spelled(options["local"]) == spelled(fm.optimisers.momentum(0.1))
    tried = entry.recipe("local", 0.2, 0, settings={"local": "adam:learning_rate=0.01"})
    assert spelled(tried.algorithm_options["local"]) == spelled(fm.optimisers.adam(0.01))


STUDIES = Path(__file__).parents[3] / "studies"

TUNED = ("seeds = 1", 'seeds = 1\ntuned = "t.toml"')

CHOSEN = """
[digits.maml]
server = "adam"
server_lr = 0.125
[digits.maml.options]
inner_lr = 0.25
"""


def test_tuned_settings_stand_below_what_the_data_set_says_and_above_the_procedure(tmp_path):
    own = "\n[data.digits.procedures.maml]\nserver_lr = 0.5\n"
    (tmp_path / "a.toml").write_text(changed(TUNED, ("inner_steps = 1", "inner_steps = 1, inner_lr = 0.75")) + own)
    (tmp_path / "t.toml").write_text(CHOSEN)
    recipe = Study.read(tmp_path / "a.toml").entries[0].recipe("maml", 0.2, 0)
    assert (recipe.server, recipe.server_lr) == ("adam", 0.5)
    assert (recipe.algorithm_options["inner_lr"], recipe.algorithm_options["inner_steps"]) == (0.25, 1)
    # Where they are being chosen, they are left out.
    study = Study.read(tmp_path / "a.toml", tuning=True)
    assert study.tuned == ""
    assert study.entries[0].recipe("maml", 0.2, 0).algorithm_options["inner_lr"] == 0.75


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (None, "cannot read the study.*t.toml: No such file"),
        ("", "a.toml names tuned settings, t.toml, and the file is empty"),
        ("digits = ", "a.toml, tuned is no TOML"),
        ("digits = 3", "t.toml, digits is a table of procedures, not 3"),
        ("digits = []", r"t.toml, digits is a table of procedures, not \[\]"),
        ("[digts.maml]", "unknown data set in .*t.toml: 'digts': did you mean 'digits'"),
        ("[digits.mmal]", "unknown procedure in .*t.toml: 'mmal': did you mean 'maml'"),
        ("[digits]\nmaml = 3", "procedures.maml is a table of names and values, not 3"),
        ("[digits.maml.options]\ninner_rl = 1", "inner_rl.*did you mean 'inner_lr'"),
        ("[digits.maml]\nserver = 'adam'\nserver_lr = -1.0", "server_lr|learning_rate"),
        ("[digits.alone]\nserver = 'adam'", "alone: a baseline is not trained, so server has no meaning"),
    ],
)
def test_what_is_wrong_in_tuned_settings_is_named(chosen, said, tmp_path):
    (tmp_path / "a.toml").write_text(changed(TUNED) + '\n[procedures.alone]\nbaseline = "alone"\n')
    if chosen is not None:
        (tmp_path / "t.toml").write_text(chosen)
    with pytest.raises(UsageError, match=said):
        Study.read(tmp_path / "a.toml")


def test_a_grid_without_tuned_settings_is_not_run_untuned_in_silence(tmp_path):
    text = changed(TUNED, ("options = { inner_epochs = 1 }", "grid = { inner_lr = [0.1, 0.3] }"))
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "t.toml").write_text(CHOSEN)
    with pytest.raises(UsageError, match=r"t\.toml has no settings of fedavg for digits, and it has a grid"):
        Study.read(tmp_path / "a.toml")
    (tmp_path / "t.toml").write_text(CHOSEN + "[digits.fedavg.options]\ninner_lr = 0.3\n")
    assert Study.read(tmp_path / "a.toml").entries[0].recipe("fedavg", 0.2, 0).algorithm_options["inner_lr"] == 0.3


@pytest.mark.parametrize("more", ['also = ["masked"]', 'server = "sgd"', "options = { inner_lr = 0.1 }"])
def test_a_data_set_gives_no_settings_to_a_baseline(more):
    text = SMALL + f'\n[procedures.alone]\nbaseline = "alone"\n[data.digits.procedures.alone]\n{more}'
    with pytest.raises(UsageError, match=r"digits.*alone: a baseline is not trained, so .* has no meaning"):
        Study.parse(text, "a.toml")


@pytest.mark.parametrize(
    ("algorithm", "title"),
    [
        ('algorithm = "meta-sgd"', r"FedMeta\(Meta-SGD\)"),
        ('algorithm = "fedper"', "FedPer"),
        ('algorithm = "scaffold"', "SCAFFOLD"),
        ('algorithm = "per-fedavg"\noptions = { of = "meta-sgd" }', r"FedMeta\(Meta-SGD\)"),
    ],
)
def test_nothing_stands_beside_what_is_no_network_alone(algorithm, title):
    more = f'\n[procedures.other]\n{algorithm}\nalso = ["masked"]\n'
    with pytest.raises(UsageError, match=rf"also = \['masked'\] needs a network that all clients share, and {title}"):
        Study.parse(SMALL + more, "a.toml")
    Study.parse(SMALL + '\n[procedures.p]\nalgorithm = "per-fedavg"\nalso = ["masked"]\n', "a.toml")


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda file: file.stem)
def test_the_projects_own_studies_are_declared_in_full(file):
    for entry in Study.read(file, tuning=True).entries:
        assert entry.comparisons
        if entry.tuning is not None:
            assert any(spec.grid for spec in entry.procedures.values())


@pytest.mark.parametrize("baseline", ["most-recent", "chain"])
def test_of_examples_that_are_drawn_there_is_no_item_before(baseline):
    more = f"\n[procedures.{baseline}]\nbaseline = {baseline!r}\n"
    Study.parse(SMALL + more, "a.toml")
    with pytest.raises(UsageError, match=rf"baseline = {baseline!r} needs each item that came before.*\[2, 4\]"):
        Study.parse(changed(("rounds = 4", "rounds = 4\nevaluate_at = [2, 4]")) + more, "a.toml")


OTHER = """
[data.other]
source = "digits"
tuned_as = "digits"
"""


def test_a_data_set_may_have_the_settings_of_another_one(tmp_path):
    (tmp_path / "a.toml").write_text(changed(TUNED) + OTHER)
    (tmp_path / "t.toml").write_text(CHOSEN)
    first, other = Study.read(tmp_path / "a.toml").entries
    assert other.recipe("maml", 0.2, 0).algorithm_options["inner_lr"] == 0.25
    assert other.recipe("maml", 0.2, 0).server_lr == first.recipe("maml", 0.2, 0).server_lr == 0.125


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"digits"\n', '"digts"\n', "data.other is tuned as.*'digts': did you mean 'digits'"),
        ('"digits"\n', '"digits"\ntuning = { tflops = 1 }\n', "has the settings of digits, so tuning has no meaning"),
        ('"digits"\n', '"more"\n[data.more]\ntuned_as = "digits"\n', "more has the settings of another one itself"),
        ('"digits"\n', "[1]\n", r"data.other: tuned_as must be a text, not \[1\]"),
    ],
)
def test_settings_of_what_is_no_other_data_set_are_refused(old, new, said):
    more = OTHER.replace(f"tuned_as = {old}", f"tuned_as = {new}")
    with pytest.raises(UsageError, match=said):
        Study.parse(SMALL + more, "a.toml")


def test_the_pool_may_be_named_and_intervals_be_over_its_examples():
    text = changed(("rounds = 4", 'rounds = 4\npool = ["3", "5"]\nover = "examples"'))
    (entry,) = Study.parse(text, "a.toml").entries
    assert (entry.pool, entry.over) == (("3", "5"), "examples")
    with pytest.raises(UsageError, match=r"'exmaples': did you mean 'examples'"):
        Study.parse(text.replace('"examples"', '"exmaples"'), "a.toml")
    with pytest.raises(UsageError, match="pool holds names, not 3"):
        Study.parse(text.replace('["3", "5"]', "[3]"), "a.toml")
