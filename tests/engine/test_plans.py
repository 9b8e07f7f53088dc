"""Every plan gives the same, on any number of devices and processes; the fastest is found, kept and taken."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta import pytrees
from fedmeta._engine import autotune, sharding
from fedmeta._engine.cohort_sharding import CohortSharding
from fedmeta._engine.plan import Plan, check_precision, default_plan, most_devices
from fedmeta._engine.program import RoundResult, round_program
from fedmeta._engine.rewrite.interpreter import trace
from fedmeta._engine.tracing import task_like, traced_update
from fedmeta._files import cache_folder
from fedmeta.errors import CheckpointError, UnknownName, UsageError
from fedmeta.runs import loop
from tests import toys
from tests.engine import planned
from tests.engine.test_devices import LOOPBACK, ROOT, finish, free_port
from tests.examples import cells, in_soak
from tests.oracles import rounds

PLANS = [
    Plan(),
    Plan(chunk=2),
    Plan(chunk=3),
    Plan(chunk=64),
    Plan(low_rank=False),
    Plan(chunk=2, low_rank=False),
    Plan(convolution="im2col"),
    Plan(chunk=5, convolution="im2col"),
    Plan(remat=True),
    Plan(chunk=3, remat=True, low_rank=False),
    Plan(rewrite=False),
    Plan(chunk=3, rewrite=False),
]


@pytest.fixture(scope="module")
def usually():
    """The run and the evaluation by the plan that is usual."""
    run = planned.train()
    return run, planned.evaluate(run.state.phi)


def oracle(run, algorithm):
    cohorts = run.history["clients"].to_pylist()
    return rounds.train(algorithm, planned.MODEL, planned.images(), cohorts, planned.SERVER, 0.5, 0)[-1]


@pytest.fixture(scope="module")
def one_by_one(usually):
    """What a loop over clients gives, that nobody made fast."""
    return oracle(usually[0], planned.ALGORITHM)


@pytest.mark.parametrize("plan", cells([PLANS[7]], PLANS), ids=str)
def test_every_plan_gives_what_a_loop_over_clients_gives(plan, usually, one_by_one):
    run = planned.train(plan)
    toys.assert_close(run.state.phi, one_by_one, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(run.history["loss"], usually[0].history["loss"], rtol=1e-5)
    assert run.plan == plan
    assert toys.same_bits(planned.train(plan).state, run.state)


SOME = [Plan(chunk=3), Plan(chunk=2, low_rank=False), Plan(chunk=5, convolution="im2col")]


@pytest.mark.parametrize("plan", cells(SOME[-1:], SOME), ids=str)
def test_displacements_by_any_plan_are_those_of_a_loop_over_clients(plan):
    algorithm = fm.FedAvg(inner_lr=0.2, inner_epochs=1, inner_batch_size=4, weighting="examples")
    run = planned.train(plan, algorithm=algorithm)
    toys.assert_close(run.state.phi, oracle(run, algorithm), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("plan", cells([PLANS[7], PLANS[10]], PLANS[1:]), ids=str)
def test_every_plan_evaluates_alike(plan, usually):
    run, expected = usually
    found = planned.evaluate(run.state.phi, plan)
    assert found.clients == expected.clients
    for name in expected.after.values:
        for point in ("before", "after"):
            values = [getattr(report, point).values[name] for report in (found, expected)]
            np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-6)


def test_an_algorithm_that_does_not_adapt_is_evaluated_by_a_plan_that_leaves_factors(usually):
    """Its inner loop has no steps at all."""
    report = planned.evaluate(usually[0].state.phi, Plan(), fm.FedAvg())
    np.testing.assert_array_equal(report.before.values["loss"], report.after.values["loss"])


@pytest.fixture
def filled():
    """A cohort of five clients in chunks of three, of which the first is far from the others."""
    x = np.array(planned.images().x[:])
    data = planned.images()
    data = fm.data.FederatedDataset(x, data.y, data.starts, data.sizes, data.ids, data.info)
    x[toys.client_rows(data, 3)] *= 1e4
    places = CohortSharding(Plan(chunk=3), 5)
    keys = [np.array([0, number], np.uint32) for number in range(5)]
    cohort = places.read(data, [3, 0, 1, 2, 4], (5, 5), keys, support=0.5, seed=0, max_examples=None, round=1)
    state = planned.FEDERATION.init(jax.random.key(0))
    program = round_program(planned.FEDERATION, places.plan, "float32", sharding.mesh(1))
    nothing = planned.FEDERATION.memory(jax.random.key(0))
    return lambda changed: RoundResult(*program(state, None, changed(cohort), nothing)), places, cohort


def test_clients_that_only_fill_up_are_the_first_and_do_not_count(filled):
    run, places, cohort = filled
    assert (places.filled, places.plan.chunk) == (6, 3)
    assert cohort.present.tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    np.testing.assert_array_equal(cohort.tasks.support.x[0], cohort.tasks.support.x[5])

    def others(cohort):
        """Fill up with another client."""
        return jax.tree.map(lambda leaf: np.concatenate([leaf[:5], leaf[1:2]]), cohort)._replace(present=cohort.present)

    first, second = run(lambda cohort: cohort), run(others)
    assert bool(first.finite)
    assert toys.same_bits(first, second)


@pytest.mark.parametrize(
    ("plan", "cohort", "filled", "chunk"),
    [
        (Plan(), 5, 5, 1),
        (Plan(chunk=2), 5, 6, 2),
        (Plan(chunk=4), 5, 6, 3),
        (Plan(chunk=64), 5, 5, 5),
        (Plan(chunk=4), 8, 8, 4),
    ],
)
def test_chunks_are_as_equal_as_they_can_be(plan, cohort, filled, chunk):
    places = CohortSharding(plan, cohort)
    assert (places.filled, places.plan.chunk) == (filled, chunk)


def test_cohorts_that_are_read_ahead_are_those_read_in_place(usually, monkeypatch):
    class InPlace:
        def __init__(self, make, items):
            self.made = map(make, items)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return self.made

        def refill(self):
            pass

    monkeypatch.setattr(loop, "Prefetcher", InPlace)
    run = planned.train()
    assert toys.same_bits(run.state, usually[0].state)


def test_bfloat16_is_near_and_not_the_same(usually):
    run = planned.train(precision="bfloat16")
    found, exact = toys.flat(run.state.phi), toys.flat(usually[0].state.phi)
    assert 1e-5 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 1e-2
    with pytest.raises(UsageError, match="precision must be 'float32' or 'bfloat16', not 'float16'"):
        check_precision("float16")


def load(path):
    with np.load(path) as file:
        return dict(file)


def check(found, run, report):
    for number, leaf in enumerate(jax.tree.leaves(run.state.phi)):
        np.testing.assert_allclose(found[str(number)], leaf, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["losses"], run.history["loss"], rtol=1e-5)
    np.testing.assert_allclose(found["after"], report.after.values["loss"], rtol=1e-4)


def start(*words):
    command = [sys.executable, "-m", "tests.engine.planned", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@in_soak
def test_four_devices_give_what_one_gives(usually, tmp_path):
    ((_, err, code),) = finish(start("plans", tmp_path))
    assert code == 0, err
    for name in planned.DEALT:
        check(load(tmp_path / f"{name}.npz"), *usually)


def together(part, out):
    address = f"{LOOPBACK}:{free_port()}"
    return finish(*(start(part, out, address, 2, place) for place in range(2)))


@in_soak
def test_two_processes_go_on_with_a_run_to_what_one_gives(tmp_path):
    for _, err, code in together("resumed", tmp_path):
        assert code == 0, err
    run = planned.train(rounds=4)
    check(load(tmp_path / "resumed.npz"), run, planned.evaluate(run.state.phi))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [1, 2, 3, 4]


def test_a_run_that_loses_a_process_leaves_what_was_told(tmp_path):
    (out, err, code), killed = together("lost", tmp_path)
    assert killed[2] == -signal.SIGKILL
    assert code == 1, err
    assert out.startswith("ProcessLost another process of the run has ended")
    told = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    kept = pytrees.load_metadata(tmp_path / "run" / "checkpoint" / "state.safetensors")
    assert kept == {"round": told}
    assert told >= 2


# Plans as text.


def test_a_plan_is_what_its_text_says():
    assert Plan.parse("chunk=4,convolution=im2col") == Plan(chunk=4, convolution="im2col")
    assert Plan.parse(" low_rank = no , remat=TRUE,devices=2") == Plan(low_rank=False, remat=True, devices=2)
    plan = Plan(chunk=3, devices=2, low_rank=False, convolution="im2col", remat=True)
    assert Plan.from_dict(plan.to_dict()) == plan
    assert Plan.from_dict({}) == Plan()
    # As earlier versions said it.
    former = {"chunk": 3, "streams": 2, "factored": False, "convolution": "patches", "checkpoint": True}
    assert Plan.from_dict(former) == plan
    assert str(Plan(chunk=2, rewrite=False)) == "2 clients side by side, the program as JAX gives it"
    assert str(plan) == (
        "3 clients side by side, convolution by im2col, all products formed, 2 devices, activations computed again"
    )


WRONG = {
    "": "a plan is given as NAME=VALUE,..., such as chunk=4,convolution=im2col, not ''",
    "chunk": "a plan is given as NAME=VALUE,..., such as chunk=4,convolution=im2col, not 'chunk'",
    "chunk=": "a plan is given as NAME=VALUE,..., such as chunk=4,convolution=im2col, not 'chunk='",
    "chunk=4,": "a plan is given as NAME=VALUE,..., such as chunk=4,convolution=im2col, not 'chunk=4,'",
    "chunks=4": "unknown part of a plan 'chunks': did you mean 'chunk'?",
    "chunk=0": "a plan's chunk must be a whole number from 1, not 0",
    "chunk=two": "a plan's chunk must be a whole number, not 'two'",
    "chunk=true": "a plan's chunk must be a whole number, not True",
    "devices=-1": "a plan's devices must be a whole number, not '-1'",
    "low_rank=1": "a plan's low_rank must be true or false, not 1",
    "remat=maybe": "a plan's remat must be true or false, not 'maybe'",
    "convolution=fft": "a plan's convolution must be 'xla' or 'im2col', not 'fft'",
}


def test_what_is_wrong_with_a_plan_is_named():
    """In a process of its own, for here types are checked before the library sees them."""
    lines = (
        "import json, sys",
        "from fedmeta._engine.plan import Plan",
        "from fedmeta.errors import UsageError",
        "said = []",
        "for text in json.load(sys.stdin):",
        "    try: Plan.parse(text)",
        "    except UsageError as error: said.append(str(error))",
        "json.dump(said, sys.stdout)",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, input=json.dumps([*WRONG]), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == list(WRONG.values())


def test_a_part_that_no_plan_has_is_an_unknown_name():
    with pytest.raises(UnknownName):
        Plan.from_dict({"chunk": 2, "tiles": 3})


def test_small_models_are_computed_side_by_side_and_large_ones_one_by_one():
    assert default_plan(10, 10**6).chunk == 10
    assert default_plan(1000, 10**6).chunk == 64
    assert default_plan(10, 10**9).chunk == 1


@pytest.mark.parametrize(
    ("cohort", "cores", "devices"),
    [(4, 1, 1), (1, 4, 1), (4, 2, 2), (3, 2, 2), (4, 3, 2), (6, 4, 3), (4, 64, 4), (100, 64, 8), (9, 64, 5)],
)
def test_a_large_model_is_dealt_to_no_more_cores_than_make_it_faster(monkeypatch, cohort, cores, devices):
    monkeypatch.setattr(jax, "local_device_count", lambda: cores)
    assert default_plan(cohort, 10**9).devices == most_devices(cohort) == devices
    assert default_plan(cohort, 10**6).devices == 1
    # With one device fewer some device would have more clients than any has now.
    if devices > 1:
        assert -(-cohort // (devices - 1)) > -(-cohort // devices) == -(-cohort // min(cores, 8, cohort))


# The search for the fastest.


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDMETA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def traced(model=planned.MODEL, lengths=(5, 5), algorithm=planned.ALGORITHM):
    federation = fm.Federation(algorithm, model, planned.SERVER)
    return traced_update(federation, task_like(planned.images(), lengths))


def plans_tried(times, first=PLANS[0], memory=None):
    """Search with a measurement that takes what `times` says of a plan; return the trials."""

    def trial(plan):
        tried.append(plan)
        return autotune.Trial(plan, times(plan), 1.0, 10 if memory is None else memory(plan))

    tried = []
    found = autotune.search(first, list(autotune.alternatives(first, traced(), 12)), trial)
    assert [one.plan for one in found] == tried
    assert len(set(tried)) == len(tried), "no plan is measured twice"
    return found


@pytest.mark.parametrize(
    "fastest",
    [
        Plan(),
        Plan(convolution="im2col"),
        Plan(chunk=12),
        Plan(chunk=4),
        Plan(low_rank=False),
        Plan(chunk=12, low_rank=False, convolution="im2col"),
    ],
    ids=str,
)
def test_the_search_finds_the_fastest_where_each_part_counts_alone(fastest):
    def times(plan):
        return 1.0 + sum(a != b for a, b in zip(plan.to_dict().values(), fastest.to_dict().values(), strict=True))

    assert autotune.best(plans_tried(times)).plan == fastest


def test_a_plan_that_takes_too_much_memory_is_tried_with_activations_computed_again():
    def times(plan):
        return float("inf") if plan.chunk > 4 or not plan.remat else 5.0 - plan.chunk

    found = plans_tried(times, Plan(chunk=12))
    assert found[1].plan == Plan(remat=True)
    assert autotune.best(found).plan == Plan(chunk=4, remat=True)


def test_where_everything_is_too_large_the_least_is_taken():
    found = plans_tried(lambda plan: float("inf"), Plan(chunk=12), lambda plan: plan.chunk * 10 - plan.remat)
    assert autotune.best(found).plan == min(found, key=lambda trial: trial.memory).plan
    assert autotune.best(found).plan.remat


def test_only_what_can_matter_is_tried():
    dense = traced_update(fm.Federation(fm.MAML(), toys.network()), task_like(toys.classification(), (5, 5)))
    assert len(list(autotune.alternatives(Plan(), dense, 12))) == 3
    assert len(list(autotune.alternatives(Plan(), dense, 1))) == 1
    nothing = trace(lambda x: x + 1, jnp.ones(3))
    assert list(autotune.alternatives(Plan(), nothing, 1)) == []


class Executable:
    """A compiled round that is said to take so many bytes."""

    def __init__(self, size):
        self.temp_size_in_bytes = size

    def memory_analysis(self):
        return self


def test_a_round_that_takes_too_much_memory_is_not_run():
    def never():
        raise AssertionError("it must not run")

    trial = autotune.Stopwatch(lambda plan: (never, Executable(101)), memory=100)(Plan())
    assert trial.seconds == float("inf")
    assert trial.memory == 101


class Machine:
    """Rounds that take what they are said to, on a clock of their own, times how busy the machine is."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.busy, self.seconds, self.ran = 0.0, 1.0, seconds, []
        monkeypatch.setattr(autotune.time, "perf_counter", lambda: self.now)
        self.stopwatch = autotune.Stopwatch(self.compiled, memory=100)

    def compiled(self, plan):
        self.now += 5.0

        def run():
            self.ran.append(plan)
            self.now += self.busy * self.seconds(plan)

        return run, Executable(7)


def test_a_round_is_timed_without_its_compilation_and_its_first_run(monkeypatch):
    machine = Machine(monkeypatch, lambda plan: 9.0 if not machine.ran[1:] else 2.0)
    trial = machine.stopwatch(Plan(chunk=2))
    assert trial == autotune.Trial(Plan(chunk=2), 2.0, 14.0, 7)
    assert len(machine.ran) == 1 + autotune.FEWEST


def test_a_plan_is_measured_beside_the_best_so_that_a_busy_machine_does_not_decide(monkeypatch):
    machine = Machine(monkeypatch, lambda plan: {1: 2.0, 2: 1.0, 3: 1.5}[plan.chunk])
    trials = [machine.stopwatch(Plan())]
    machine.busy = 3.0
    trials.append(machine.stopwatch(Plan(chunk=2)))
    machine.busy = 0.5
    trials.append(machine.stopwatch(Plan(chunk=3)))
    assert [trial.seconds for trial in trials] == pytest.approx([2.0, 1.0, 1.5])
    assert autotune.best(trials).plan == Plan(chunk=2)
    # Turn and turn about, with the best of those before.
    assert machine.ran[-4:] == [Plan(chunk=3), Plan(chunk=2), Plan(chunk=3), Plan(chunk=2)]


def test_no_second_round_is_run_where_the_first_takes_far_too_long(monkeypatch):
    machine = Machine(monkeypatch, lambda plan: float(plan.chunk))
    machine.stopwatch(Plan())
    machine.ran.clear()
    assert machine.stopwatch(Plan(chunk=5)).seconds == 5.0
    assert machine.ran == [Plan(chunk=5)]
    # A short one is no reason.
    slow = iter([0.9])
    machine.seconds = lambda plan: next(slow, 0.01) if plan.devices == 2 else 0.02
    machine.stopwatch = autotune.Stopwatch(machine.compiled, memory=100)
    machine.stopwatch(Plan())
    assert machine.stopwatch(Plan(devices=2)).seconds == pytest.approx(0.01)


# What is kept.


TRIALS = [
    autotune.Trial(Plan(chunk=2, convolution="im2col"), 0.25, 2.0, 7),
    autotune.Trial(Plan(), float("inf"), 1.0, 9),
]


def test_trials_are_found_again_in_the_cache_that_the_environment_names(own_cache):
    assert cache_folder("plans") == own_cache / "plans"
    assert autotune.remembered("a" * 32) == []
    autotune.remember("a" * 32, TRIALS)
    assert [path.name for path in (own_cache / "plans").iterdir()] == ["a" * 32 + ".json"]
    assert autotune.remembered("a" * 32) == TRIALS
    assert autotune.remembered("b" * 32) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[{",
        "3",
        "null",
        '{"plan": {}}',
        "[3]",
        "[{}]",
        '[{"plan": {}}]',
        '[{"plan": {"chunk": 0}, "seconds": 1.0, "first": 1.0, "memory": 1}]',
        '[{"plan": {"tiles": 2}, "seconds": 1.0, "first": 1.0, "memory": 1}]',
        '[{"plan": [], "seconds": 1.0, "first": 1.0, "memory": 1, "more": 2}]',
        "\x00\xff",
    ],
)
def test_a_damaged_file_in_the_cache_counts_as_none(own_cache, content):
    (own_cache / "plans").mkdir(parents=True)
    (own_cache / "plans" / "x.json").write_text(content, "latin-1")
    assert autotune.remembered("x") == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDMETA_CACHE", str(tmp_path / "file"))
    autotune.remember("x", TRIALS)
    assert autotune.remembered("x") == []


def test_a_digest_stands_for_a_program_a_cohort_and_a_precision():
    described = [
        (traced(), 4, "float32"),
        (traced(), 5, "float32"),
        (traced(), 4, "bfloat16"),
        (traced(lengths=(5, 6)), 4, "float32"),
        (traced(algorithm=replace(planned.ALGORITHM, inner_steps=3)), 4, "float32"),
    ]
    names = [autotune.digest(*one) for one in described]
    assert len(set(names)) == len(names)
    assert autotune.digest(traced(planned.network()), 4, "float32") == names[0], "the same program from other objects"


def test_a_digest_is_the_same_in_another_process():
    """Of a network whose activation has a derivative of its own."""
    lines = (
        "import fedmeta as fm",
        "from fedmeta._engine import autotune",
        "from fedmeta._engine.tracing import task_like, traced_update",
        "from tests import toys",
        "model = fm.models.mlp((toys.FEATURES, 4, toys.CLASSES))",
        "federation = fm.Federation(toys.algorithm('fedavg'), model)",
        "traced = traced_update(federation, task_like(toys.classification(), (5, 5)))",
        "name = autotune.digest(traced, 4, 'float32')",
    )
    there: dict = {}
    exec("\n".join(lines), there)
    command = [sys.executable, "-c", "\n".join((*lines, "print(name)"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == there["name"]


# What a run takes.


@pytest.fixture
def counted(monkeypatch, own_cache):
    """Measure by what a table says; return the plans that were measured."""
    seen = []

    def trial(plan):
        seen.append(plan)
        return autotune.Trial(plan, 1.0 if plan == Plan(chunk=5, low_rank=False) else 2.0 + plan.low_rank, 0.5, 100)

    monkeypatch.setattr(autotune, "Stopwatch", lambda compiled: trial)
    return seen


def explain(**options):
    return fm.explain_plan(
        planned.ALGORITHM, planned.MODEL, planned.images(), cohort_size=5, server=planned.SERVER, support=0.5, **options
    )


def test_plans_are_measured_once_and_then_remembered(counted):
    told = []
    first = explain(listeners=[told.append])
    assert first.plan == Plan(chunk=5, low_rank=False)
    assert first.source == "the fastest of those measured now"
    assert [trial.plan for trial in first.trials] == counted
    assert [event.plan for event in told] == [str(plan) for plan in counted]
    again, tried = explain(), list(counted)
    assert again.plan == first.plan
    assert again.source == "the fastest of those measured before"
    assert counted == tried
    assert again.buckets == first.buckets
    assert again.flops == first.flops > 0
    assert 0 <= again.padding < 1
    # A run takes the plan that was found, however short it is.
    assert planned.train(rounds=1).plan == first.plan
    assert counted == tried


def test_a_short_run_measures_nothing_and_a_long_one_does(counted, monkeypatch):
    assert planned.train(rounds=1).plan == Plan(chunk=5)
    assert counted == []
    monkeypatch.setattr(autotune, "WORTH", 0.0)
    assert planned.train(rounds=1).plan == Plan(chunk=5, low_rank=False)
    assert counted


def test_a_plan_that_is_given_is_looked_at_and_nothing_else(counted):
    found = explain(plan=Plan(chunk=2))
    assert (found.plan, found.source) == (Plan(chunk=2), "given")
    assert counted == [Plan(chunk=2)]
    assert planned.train(Plan(chunk=2), rounds=1).plan == Plan(chunk=2)


def test_a_measurement_of_this_machine_is_of_rounds_that_run(own_cache, monkeypatch):
    monkeypatch.setattr(autotune, "ENOUGH", 1e-9)
    found = explain(plan=Plan(chunk=2))
    (trial,) = found.trials
    assert 0 < trial.seconds < trial.first
    assert trial.memory > 0


def test_a_run_goes_on_by_its_own_plan_whatever_has_been_measured_since(own_cache, tmp_path):
    whole = planned.train(Plan(chunk=2), rounds=4)
    planned.train(Plan(chunk=2), rounds=2, directory=tmp_path / "run")
    simulator = fm.Simulator(planned.FEDERATION, planned.images(), cohort_size=5, support=0.5)
    name = autotune.digest(simulator.traced(), 5, "float32")
    autotune.remember(name, [autotune.Trial(Plan(chunk=5, convolution="im2col"), 0.1, 1.0, 1)])
    assert planned.train(rounds=1).plan == Plan(chunk=5, convolution="im2col")
    run = planned.train(rounds=4, directory=tmp_path / "run")
    assert run.plan == Plan(chunk=2)
    assert toys.same_bits(run.state, whole.state)


@pytest.mark.parametrize("plan", ['"fast"', "3", "[]", '{ chunk = "two" }', "{ tiles = 2 }", "{ chunk = 0 }"])
def test_a_damaged_plan_of_a_run_is_named(plan, tmp_path):
    planned.train(rounds=1, directory=tmp_path)
    file = tmp_path / "run.toml"
    lines, skipped = [], False
    for line in file.read_text().splitlines():
        skipped = line == "[plan]" if line.startswith("[") else skipped
        lines += [] if skipped else [line]
    file.write_text("\n".join([f"plan = {plan}", *lines]))
    with pytest.raises(CheckpointError, match=r"run\.toml is damaged"):
        planned.train(rounds=2, directory=tmp_path)


# The programs and the memory of a run.


def test_a_clients_update_is_traced_once_for_its_program_its_operations_and_its_bytes(monkeypatch):
    """Tracing takes a large part of the time to the first round."""
    traced, update = [], fm.MAML.update

    def counted(*args):
        traced.append(args)
        return update(*args)

    monkeypatch.setattr(fm.MAML, "update", counted)
    run = planned.train(Plan(chunk=2), rounds=2, data=planned.images((6,) * 6), model=planned.network())
    assert len(traced) == 1
    assert run.rows[0]["flops"] > 0
    assert run.rows[0]["bytes_up"] > 0


def test_a_bucket_is_compiled_once_and_no_later_round_compiles_anything():
    """A fresh network, so that nothing has been compiled before; all clients of one size."""
    compiled = []

    def count(name, seconds, **_):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(name)

    after = []
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        planned.train(
            Plan(chunk=2),
            rounds=5,
            data=planned.images((6,) * 6),
            model=planned.network(),
            server=optax.adam(0.01),
            listeners=[lambda _: after.append(len(compiled))],
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    # The start, five rounds, the end.
    assert len(after) == 7
    assert after[1] > after[0]
    assert after[2:] == [after[1]] * 5


def test_there_is_one_program_a_bucket(usually):
    plan = CohortSharding(Plan(chunk=2), 5).plan
    program = round_program(planned.FEDERATION, plan, "float32", sharding.mesh(1))
    before = program._cache_size()
    run = planned.train(Plan(chunk=2), rounds=8, cohort_size=5)
    buckets = {row["flops"] for row in run.rows}
    assert len(buckets) == 1 or before == 0
    assert program._cache_size() <= max(before, len(buckets))


def test_what_validation_keeps_stays_readable_while_the_states_memory_is_used_again(tmp_path):
    kept = []
    plain = planned.train(rounds=4)
    run = planned.train(
        rounds=4, validate=lambda phi: kept.append((phi, toys.flat(phi))) or {}, validate_every=1, directory=tmp_path
    )
    for phi, values in kept:
        np.testing.assert_array_equal(toys.flat(phi), values)
    assert len({values.tobytes() for _, values in kept}) == 4
    assert toys.same_bits(run.state, plain.state)
    assert toys.same_bits(run.state.phi, kept[-1][0])
    saved = pytrees.load(Path(tmp_path) / "checkpoint" / "state.safetensors", run.state)
    assert toys.same_bits(saved, run.state)
