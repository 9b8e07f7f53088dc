import pytest

from fedmeta.errors import UsageError
from fedmeta.study.grid.file import Declared, Study
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
