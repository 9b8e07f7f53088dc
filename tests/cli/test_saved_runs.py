"""What a finished run, its data and the files beside it may and may not be used for."""

import json
import os
import stat

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta.runs.folder import read_history


def test_a_run_is_not_evaluated_on_data_in_which_its_training_clients_have_changed(fedmeta, train_shop, shop):
    """Otherwise clients that it was trained on could pass for unseen ones."""
    _, run = train_shop()
    whole = shop.read_text()
    shop.write_text(whole + "".join(f"newcomer,{n},2,true,yes\n" for n in range(9)))
    done = fedmeta("evaluate", run)
    assert done.code == 1
    assert "training clients have changed" in done.err
    resumed = fedmeta("resume", run, "--rounds", 4)
    assert resumed.code == 1
    assert "training clients' data" in resumed.err
    shop.write_text(whole)
    assert fedmeta("evaluate", run).code == 0


def test_a_run_is_loaded_used_and_shown_without_its_training_data(train_shop, shop):
    done, run = train_shop("--model", "softmax_regression")
    assert done.code == 0, done.err
    mine = fm.data.from_table(shop, client="user", target="label")["u0"]
    shop.unlink()
    saved = fm.load_run(run)
    own = saved.algorithm.adapt(saved.model, saved.phi, mine, jax.random.key(0))
    assert saved.model.mean_loss(own, mine) < saved.model.mean_loss(saved.params, mine)
    said = str(saved).splitlines()
    assert said[:2] == ["FedMeta(MAML), 3 rounds", "network: softmax_regression, which predicts 2 classes"]
    assert said[-1] == f"folder: {run}"
    assert len(said) == 7
    assert str(saved.phi) not in repr(saved)


def test_a_run_that_shall_have_more_rounds_is_not_done_until_it_has_them(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop()
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace("rounds = 3", "rounds = 9"))
    for command in (("evaluate", run), ("adapt", run, "--examples", shop, "--out", tmp_path / "m")):
        done = fedmeta(*command)
        assert done.code == 2
        assert f"fedmeta resume {run}" in done.err
    assert fedmeta("resume", run).code == 0
    assert len(read_history(run)) == 9


@pytest.mark.parametrize("text", ["", "[run]\nrounds = 3\n[recipe]\n", "[run]\n[recipe]\ndata = 'x'\n", "recipe = 1\n"])
def test_a_damaged_recipe_is_one_line(fedmeta, tmp_path, text):
    (tmp_path / "run.toml").write_text(text)
    for command in ("evaluate", "resume"):
        done = fedmeta(command, tmp_path)
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert "run.toml is damaged" in done.err


@pytest.mark.filterwarnings("default")
def test_adaptation_that_diverges_counts_as_wrong_and_is_said(fedmeta, train_shop):
    done, run = train_shop("--adapt-lr", 1e30, "--adapt-steps", 4, "--json")
    assert done.code == 0, done.err
    assert "not finite after adaptation" in done.err
    assert "NaN" not in done.out
    assert done.json["after"]["over_examples"] == {"accuracy": 0.0, "loss": None}
    assert "NaN" not in (run / "evaluation.json").read_text()


def test_a_folder_with_the_users_own_files_is_no_place_for_a_comparison(fedmeta, tmp_path):
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "report.html").write_text("my thesis")
    done = fedmeta("compare", "--data", "digits", "--rounds", 2, "--out", mine)
    assert done.code == 2
    assert (mine / "report.html").read_text() == "my thesis"
    assert [path.name for path in mine.iterdir()] == ["report.html"]


def test_a_refused_comparison_writes_nothing(fedmeta, tmp_path):
    done = fedmeta("compare", "--data", "digits", "--cohort-size", 1000, "--out", tmp_path / "out")
    assert done.code == 2
    assert not (tmp_path / "out").exists()


def test_predictions_do_not_replace_what_they_are_made_from(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop()
    model = tmp_path / "mine.safetensors"
    fedmeta("adapt", run, "--examples", shop, "--out", model)
    before = model.read_bytes(), shop.read_bytes()
    for out in (model, shop):
        assert fedmeta("predict", model, "--examples", shop, "--out", out).code == 2
    assert (model.read_bytes(), shop.read_bytes()) == before


def test_the_users_umask_holds_for_a_clients_own_model(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop()
    old = os.umask(0o077)
    try:
        fedmeta("adapt", run, "--examples", shop, "--out", tmp_path / "mine.safetensors")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "mine.safetensors").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_is_one_line(fedmeta, train_shop, tmp_path):
    _, run = train_shop()
    (tmp_path / "file").write_text("")
    done = fedmeta("evaluate", run, "--per-client", tmp_path / "file" / "clients.csv")
    assert done.code == 1
    assert done.err.count("\n") == 1


def test_codes_that_are_no_characters_are_refused(fedmeta, tmp_path):
    from fedmeta.errors import DataError
    from fedmeta.runs.inputs import Inputs

    inputs = Inputs((3,), ("a", "b"), characters="ab")
    for x, says in ((np.full((2, 3), 9), "outside 0 to 1"), (np.zeros((2, 3), np.float32), "codes of characters")):
        np.savez(tmp_path / "x.npz", x=x, y=np.array(["a", "b"]))
        with pytest.raises(DataError, match=says):
            inputs.read(str(tmp_path / "x.npz"))


def test_a_run_says_with_which_versions_it_was_made(train_shop):
    import tomllib

    import jax

    _, run = train_shop()
    assert tomllib.loads((run / "run.toml").read_text())["versions"]["jax"] == jax.__version__


def test_a_report_names_markup_like_any_other_folder(fedmeta, train_shop):
    done, run = train_shop(out="[bold]")
    assert done.code == 0, done.err
    assert f"{run}/model.safetensors" in done.out.replace("\n", "")
    assert json.loads((run / "evaluation.json").read_text())["clients"] == 1


def test_rows_without_a_target_are_left_out_of_what_a_client_adapts_on_if_that_is_said(fedmeta, train_shop, tmp_path):
    _, run = train_shop()
    whole = "spent,visits,member,label\n5000,3,True,yes\n4000,5,False,no\n"
    (tmp_path / "whole.csv").write_text(whole)
    (tmp_path / "gap.csv").write_text(whole + "4500,2,True,\n")
    refused = fedmeta("adapt", run, "--examples", tmp_path / "gap.csv", "--out", tmp_path / "gap.safetensors")
    assert refused.code == 1
    assert "--drop-missing-target" in refused.err
    words = ("--examples", tmp_path / "gap.csv", "--drop-missing-target", "--out", tmp_path / "gap.safetensors")
    done = fedmeta("adapt", run, *words)
    assert done.code == 0, done.err
    assert "on 2 examples" in done.out
    fedmeta("adapt", run, "--examples", tmp_path / "whole.csv", "--out", tmp_path / "whole.safetensors")
    assert (tmp_path / "gap.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_numbers_that_are_no_table_are_trained_on_and_tested(fedmeta, tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 3)).astype(np.float32)
    fm.data.save(fm.data.from_arrays(x, x.sum(axis=1), [f"c{i // 6}" for i in range(60)]), tmp_path / "set")
    words = ("--algorithm", "maml", "--rounds", 2, "--out", tmp_path / "run", "--json")
    done = fedmeta("train", "--data", tmp_path / "set", *words)
    assert done.code == 0, done.err
    assert done.json["figures"]["after"]["over_examples"]["rmse"] > 0


def test_the_round_that_was_selected_is_said(fedmeta, train_shop):
    done, run = train_shop("--rounds", 6, "--validate-every", 1)
    rounds = {row["round"]: row["validation_accuracy"] for row in read_history(run)}
    best = max(rounds, key=rounds.get)
    assert f"Tested as after round {best}, the best by the validation clients" in " ".join(done.out.split())
    assert fm.load_run(run).best == best
    assert f"the result is that of round {best}" in str(fm.load_run(run))
    assert json.loads((run / "evaluation.json").read_text())["best_round"] == best
    last, other = train_shop("--rounds", 2, "--select", "last", out="last")
    assert "Tested as after" not in last.out
    assert fm.load_run(other).best is None


def test_a_comparison_over_seeds_has_a_folder_of_its_own(fedmeta, tmp_path):
    words = ("compare", "--data", "digits", "--algorithms", "fedavg", "--rounds", 1, "--out", tmp_path / "out")
    assert fedmeta(*words).code == 0
    refused = fedmeta(*words, "--seeds", 2)
    assert refused.code == 2
    assert "holds a comparison with --seeds 1; give another folder for --seeds 2" in refused.err
