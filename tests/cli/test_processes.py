"""Several processes for one command: they end together, write once, and say in one line what went wrong."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedmeta.cli import launch
from fedmeta.errors import RunError
from tests.examples import TIMES, in_soak
from tests.waiting import PATIENCE, until

MEMBER = """
import os, signal, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
me, folder = int(words["--process"]), words["--folder"]
own = os.path.join(folder, str(me))
with open(own + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(own + ".new", own)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
def together():
    while len(there()) < int(words["--processes"]):
        time.sleep(0.01)
def there():
    return [name for name in os.listdir(folder) if name.isdecimal()]
def last():
    for name in there():
        while name != str(me) and lives(int(open(os.path.join(folder, name)).read())):
            time.sleep(0.01)
def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
def die(code):
    os.kill(os.getpid(), code)
def fail(text, code):
    print(text, file=sys.stderr)
    sys.exit(code)
"""


@pytest.fixture
def team(tmp_path, monkeypatch):
    """Launch processes of a few lines each, without JAX; `team.pids()` are theirs."""
    monkeypatch.setattr(launch, "PATIENCE", float(PATIENCE))
    folder = tmp_path / "team"
    folder.mkdir()

    def run(lines, processes=2):
        return launch.launch(
            [sys.executable, "-c", MEMBER + lines, "--folder", str(folder)], processes, lambda: "; go on"
        )

    run.pids = lambda: [int(path.read_text()) for path in sorted(folder.iterdir())]
    return run


def gone(pid):
    """Return whether a process has ended, be it that nobody has asked for its exit code yet."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip() or state.startswith("Z")


def test_only_the_first_speaks_and_its_exit_code_counts(team, capfd):
    assert team("together(); print('out', me); print('err', me, file=sys.stderr); sys.exit(0)", 3) == 0
    assert capfd.readouterr() == ("out 0\n", "err 0\n")


@pytest.mark.parametrize("code", [1, 2, 130])
def test_what_the_first_says_of_its_failure_is_enough(team, capfd, code):
    assert team(f"together(); fail(f'fedmeta: wrong', {code})") == code
    assert capfd.readouterr() == ("", "fedmeta: wrong\n")


@pytest.fixture
def silent(team, monkeypatch):
    """Hardly wait for a first process that never says anything."""
    monkeypatch.setattr(launch, "PATIENCE", 0.1)


FAILURES = {
    "die(signal.SIGKILL)": "was ended by SIGKILL",
    "fail('fedmeta: no such file', 1)": "has failed: no such file",
    "sys.exit(7)": "has failed with exit code 7",
}


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("failure", FAILURES)
def test_one_that_fails_takes_the_others_with_it(team, capfd, failure):
    with pytest.raises(RunError, match=f"^process 1 of 3 {FAILURES[failure]}; go on$"):
        team(f"together(); {failure} if me == 1 else time.sleep(3600)", 3)
    assert capfd.readouterr() == ("", "")
    assert all(gone(pid) for pid in team.pids())


@pytest.mark.usefixtures("silent")
def test_what_a_failed_process_wrote_is_shown_where_it_is_more_than_a_line(team, capfd):
    with pytest.raises(RunError, match="process 1 of 2 has failed with exit code 1; go on"):
        team("together()\nif me: raise KeyError('x')\ntime.sleep(3600)")
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("guilty", [0, 2])
def test_the_one_that_died_is_named_and_not_those_that_lost_it(team, guilty):
    others = f"die(signal.SIGABRT) if me == 1 else sys.exit({launch.LOST})"
    late = f"(last(), die(signal.SIGKILL)) if me == {guilty} else ({others})"
    with pytest.raises(RunError, match=f"process {guilty} of 3 was ended by SIGKILL; go on"):
        team(f"together(); {late}", 3)


@in_soak
def test_a_program_that_is_killed_leaves_no_process(shop, tmp_path):
    process = start(*train(shop, tmp_path / "run", 100_000), "--processes", "2")
    until(lambda: len(children(process.pid)) == 2)
    orphans = children(process.pid)
    assert not any(gone(pid) for pid in orphans)
    until((tmp_path / "run" / "metrics.jsonl").exists)
    process.kill()
    process.communicate(timeout=PATIENCE)
    until(lambda: all(gone(pid) for pid in orphans))


@pytest.mark.parametrize(
    ("cores", "processes", "parts"),
    [
        (range(4), 2, [[0, 1], [2, 3]]),
        (range(3), 2, [[0], [1, 2]]),
        ([5, 7], 2, [[5], [7]]),
        ([5, 7], 3, [[5], [7], [5]]),
    ],
)
def test_cores_are_dealt_equally(cores, processes, parts):
    assert [list(launch.part(cores, process, processes)) for process in range(processes)] == parts


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_each_process_runs_on_its_own_cores_and_this_one_on_all_again(team, capfd):
    before = os.sched_getaffinity(0)
    assert team("together(); print(sorted(os.sched_getaffinity(0)))", 2) == 0
    assert json.loads(capfd.readouterr().out) == list(launch.part(sorted(before), 0, 2))
    assert os.sched_getaffinity(0) == before


MISUSE = {
    "no processes": (("--processes", 0), "--processes must be at least 1, not 0"),
    "a process without the others": (("--processes", 2, "--process", 0), "--process 0 needs --coordinator"),
    "a coordinator alone": (("--coordinator", "host:1"), "--coordinator host:1 needs --processes and --process"),
    "no port": (("--coordinator", "host", "--processes", 2, "--process", 0), "must be HOST:PORT"),
    "a process too many": (("--coordinator", "host:1", "--processes", 2, "--process", 2), "not 2"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_a_wrong_place_is_one_line_and_nothing_starts(fedmeta, train_shop, tmp_path, case):
    words, says = MISUSE[case]
    for done in (train_shop(*words)[0], fedmeta("resume", tmp_path / "run", *words)):
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert says in done.err
    assert not (tmp_path / "run").exists()


def train(table, out, rounds):
    columns = ("--data", str(table), "--client", "user", "--target", "label")
    chosen = ("--algorithm", "fedavg", "--model", "softmax_regression", "--rounds", str(rounds), "--baselines", "free")
    return ("train", *columns, *chosen, "--out", str(out), "--json")


def start(*words):
    command = [sys.executable, "-m", "fedmeta", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid):
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if line.split()[1] == str(pid)]


@in_soak
def test_two_processes_give_what_one_gives(fedmeta, shop, tmp_path):
    alone = fedmeta(*train(shop, tmp_path / "one", 3), "--processes", 1)
    process = start(*train(shop, tmp_path / "two", 3), "--processes", "2")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert json.loads(out)["clients"] == alone.json["clients"]
    found, right = (load_file(tmp_path / run / "model.safetensors") for run in ("two", "one"))
    assert found.keys() == right.keys()
    for name, value in right.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6)


def test_ctrl_c_stops_all_and_leaves_a_run_that_goes_on(fedmeta, shop, tmp_path):
    run = tmp_path / "run"
    process = start(*train(shop, run, 100_000), "--processes", "2")
    until((run / "metrics.jsonl").exists)
    started = children(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == f"fedmeta: interrupted; go on with: fedmeta resume {run}"
    assert err.count("fedmeta:") == 1
    assert len(started) == 2
    assert all(gone(pid) for pid in started)
    done = len((run / "metrics.jsonl").read_text().splitlines())
    again = fedmeta("resume", run, "--rounds", done + 1)
    assert again.code == 0, again.err


@in_soak
def test_all_processes_test_the_model_of_the_best_round_which_the_leader_alone_has_kept(fedmeta, shop, tmp_path):
    run = tmp_path / "run"
    # So many test clients that each process has some.
    told = ("--validate-every", 1, "--server", "sgd", "--server-lr", 30, "--fractions", "0.1,0.1,0.8")
    alone = fedmeta(*train(shop, run, 8), *told)
    assert alone.code == 0, alone.err
    assert alone.json["best_round"] < 8
    again = start("resume", str(run), "--processes", "2", "--baselines", "free", "--json")
    out, err = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, err
    together = json.loads(out)
    assert together["best_round"] == alone.json["best_round"]
    for figure in ("accuracy", "loss"):
        found, expected = (each["after"]["over_examples"][figure] for each in (together, alone.json))
        assert found == pytest.approx(expected, rel=1e-4)


@in_soak
def test_ctrl_c_while_they_start_is_one_line(shop, tmp_path):
    process = start(*train(shop, tmp_path / "run", 100_000), "--processes", "2")
    until(lambda: len(children(process.pid)) == 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.strip() == "fedmeta: interrupted"


@pytest.mark.skipif(not TIMES, reason="with processes of a few lines it is tested above; this is for `make soak`")
def test_a_process_that_is_killed_ends_the_run_with_one_line(shop, tmp_path):
    run = tmp_path / "run"
    process = start(*train(shop, run, 100_000), "--processes", "2")
    until((run / "metrics.jsonl").exists)
    started = sorted(children(process.pid))
    os.kill(started[1], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    last = f"fedmeta: process 1 of 2 was ended by SIGKILL; go on with: fedmeta resume {run}"
    assert err.splitlines()[-1] == last
    assert err.count("fedmeta:") == 1
    assert all(gone(pid) for pid in started)
