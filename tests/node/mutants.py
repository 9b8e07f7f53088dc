"""Tries every sabotage of the exact path and of the reducer in a copy: `python -m tests.node.mutants [WORD ...]`.

A mutant that no test notices is a rule that nobody tests.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.govern.sabotages import Mutant

ROOT = Path(__file__).parents[2]
SOURCE, TESTS = Path("src/fedmeta/node"), Path("tests/node")
CARRIED = ("src", "tests", "pyproject.toml")
SECONDS = 180


def mutant(file, old, new, breaks):
    return Mutant(f"{file}.py", old, new, breaks, (f"test_{file}.py",))


def reduced(file, old, new, breaks):
    return Mutant(f"reducer/{file}.py", old, new, breaks, ("reducer/test_step.py",))


MUTANTS = (
    # What a node says and does
    reduced("step", "if event.start != memory.start:", "if False:", "answers to an earlier start count"),
    reduced("step", "view.height <= memory.view.height", "False", "an old view takes the place of a new one"),
    reduced(
        "step",
        "if isinstance(busy.duty, Submit):\n            later",
        "if False:\n            later",
        "what was sent is sent without end",
    ),
    reduced("step", "wait = NEVER if event.final else", "wait =", "what can never be is tried again and again"),
    reduced("step", "FIRST_WAIT << min(tries - 1, 16)", "FIRST_WAIT", "what fails is not tried less often"),
    reduced(
        "step",
        "differed=before.differed or not same",
        "differed=before.differed",
        "a computation may come out otherwise",
    ),
    reduced(
        "step", "if _attempt(view) != _attempt(memory.view):", "if False:", "who gave what did not open is never asked"
    ),
    reduced("contributor", "if round.smallest < approval.smallest:", "if False:", "an update is among too few"),
    reduced("seat", "elif len(round.members) < (takes", "elif 0 > (takes", "too few are computed with for ever"),
    reduced("step", "if moving >= AT_ONCE:", "if False:", "all transfers go at once"),
    reduced("step", "if view.height < memory.silent_until:", "if False:", "a new machine speaks at once"),
    reduced("step", "or memory.stopping or", "or", "who stops begins new things"),
    reduced(
        "step",
        "    if memory.halted:\n        yield",
        "    if False:\n        yield",
        "a failed flush does not stop a node",
    ),
    reduced(
        "step",
        "return replace(memory, halted=memory.halted or event.why)",
        "return memory",
        "a broken disk is not minded",
    ),
    reduced("step", "Cancel(one.number)", "Cancel(number)", "another action is cancelled"),
    reduced("contributor", "elif view.is_sealed and", "elif", "bytes leave before the header is signed by many"),
    reduced(
        "contributor",
        "        elif approval.contributes:\n",
        "        if True:\n",
        "a member that only aggregates trains",
    ),
    reduced(
        "contributor",
        "    if not opens or (update.origin",
        "    if (update.origin",
        "an update that opens nothing is brought",
    ),
    reduced(
        "contributor",
        'yield ("promise-update", number), Append(memory.trained[number])',
        "pass",
        "an update is never promised",
    ),
    reduced("contributor", "if number in memory.own:", "if False:", "an update is trained again after a crash"),
    reduced(
        "contributor", "> memory.limits.upload * milliseconds > 0", "> 2**80", "a link that is too slow takes part"
    ),
    reduced("contributor", "PATIENT * (view.height", "0 * (view.height", "who lacks an update is never brought it"),
    reduced(
        "seat", "    if round.recipe not in memory.approvals:", "    if False:", "a seat works on what nobody approved"
    ),
    reduced("seat", "    elif promised != view.closing:", "    elif False:", "a seat does not mind two histories"),
    reduced("seat", "TWICE = 2", "TWICE = 1", "a result is computed once"),
    reduced(
        "seat",
        "        if promise.members != round.members:",
        "        if False:",
        "a result of other updates is committed to",
    ),
    reduced(
        "seat", "    elif computed is not None and computed.differed:", "    elif False:", "two results are no alarm"
    ),
    reduced("seat", "elif all(memory.holds(one) for one in round.members):", "else:", "what is not here is aggregated"),
    reduced(
        "seat",
        "    if differed or view.power_of(against) * 3 > view.power:",
        "    if differed:",
        "a seat opens against more than a third",
    ),
    reduced("seat", "    if differed or view", "    if view", "a seat opens what its memory contradicts"),
    reduced("seat", "if against and times <= TWICE", "if times <= TWICE", "everything is computed a third time"),
    reduced(
        "seat",
        "    if promise is None:\n        text",
        "    if False:\n        text",
        "what is not in the journal is opened",
    ),
    reduced("seat", "and (said is None or one not in said.members)", "", "what is held is said without end"),
    reduced("seat", "* largest > memory.limits.room", "* largest > 2**80", "more is taken than fits"),
    reduced("seat", "(number, member, GATE) not in memory.bad", "True", "what does not open is taken again and again"),
    reduced(
        "view",
        "return self.power_of(names) * 3 > self.power * 2",
        "return self.power_of(names) * 3 > self.power",
        "a third is a quorum",
    ),
    reduced("view", "if one.header == self.closing", "", "any header that is signed counts"),
    # What is checked
    mutant("aggregation", "len(message) != self.message_length", "len(message) < 4", "any length is taken"),
    mutant("aggregation", "if steps.size and (", "if False and (", "numbers out of range are taken"),
    mutant("aggregation", "steps.min() < -self._most or", "False or", "what was not finite is taken"),
    mutant("aggregation", 'algorithm.weighting == "clients" and', "False and", "a client weighs as it likes"),
    mutant("aggregation", "(1 <= weight <= HEAVIEST and", "(weight <= HEAVIEST and", "weights may be negative"),
    mutant("aggregation", "weight == math.floor(weight)", "True", "weights need not be whole"),
    mutant("aggregation", "squares > self._longest", "squares > 2 * self._longest", "norms may be longer"),
    mutant(
        "aggregation", "squares += int(wide @ wide)", "squares = int(wide @ wide)", "a norm is that of the last block"
    ),
    mutant("aggregation", "* (1 + SLACK + coarse)", "", "an honest client's rounding is refused"),
    mutant("aggregation", "+ Fraction(root, 2)", "", "rounding to the grid is refused"),
    mutant("aggregation", "norms = [] if isinstance(part, gaussian_noise) else norms", "", "noise is refused"),
    mutant("aggregation", "Fraction(min(norms))", "Fraction(max(norms))", "the longest norm counts"),
    mutant("aggregation", "            self.check(message)\n", "            pass\n", "aggregation takes anything"),
    mutant("aggregation", "> 2**53", "> 2**63", "sums may round"),
    mutant("aggregation", "len(messages) < self.rule.smallest", "not messages", "too few messages are taken"),
    mutant("aggregation", "        self.check_state(state)\n        for", "        for", "any state is taken"),
    mutant(
        "aggregation", "if not all(np.isfinite(leaf)", "if False and not all(np.isfinite(leaf)", "a lost state is kept"
    ),
    # What is computed
    mutant(
        "aggregation",
        "sorted(messages, key=lambda message: hashlib.sha256(message).digest())",
        "list(messages)",
        "the order of messages counts",
    ),
    mutant("aggregation", ".astype(np.float64) * 2.0**", ".astype(np.float32) * np.float32(2.0)**", "sums are float32"),
    mutant(
        "aggregation",
        "stacked = np.empty((len(messages), rows.stop - rows.start))",
        "stacked = np.empty((len(messages), rows.stop - rows.start), np.float32)",
        "columns are float32",
    ),
    mutant(
        "aggregation",
        "wide = jax.tree.map(lambda leaf: leaf.astype(np.float64)",
        "wide = jax.tree.map(lambda leaf: leaf",
        "the step is float32",
    ),
    mutant(
        "aggregation",
        "total._replace(weight=total.weight + part.weight)",
        "total",
        "the sum of the weights is the first",
    ),
    mutant("aggregation", "self._type.itemsize * rows.start", "0", "every block is the first"),
    mutant(
        "aggregation",
        "yield slice(first, min(first + block, size))",
        "yield slice(first, min(first + block, size - 1))",
        "the last number stays",
    ),
    mutant("known_answers", "0 - little(", "1 - little(", "the known step does not cancel"),
    # The member's own draws
    mutant("training", "hashlib.sha256(state).hexdigest(), ", "", "another state has the same noise"),
    mutant("training", "procedure.digest, ", "", "another procedure has the same draws"),
    mutant("training", ", int(round)]", "]", "another round has the same draws"),
    mutant("training", "hmac.new(self._secret,", 'hmac.new(b"",', "draws need no secret"),
    mutant("training", "if jax.tree.leaves(kept):", "if False:", "what a client should keep is lost"),
    mutant("training", "        exact.check(sent)\n", "        pass\n", "what others refuse is committed to"),
    mutant("training", "data.at_least(2)", "data", "a client with one example stops a member"),
    mutant(
        "training", "jnp.ones_like(everything) if alike else everything", "everything", "a member weighs its clients"
    ),
    mutant("training", "/ everything", "", "a member sends a sum"),
)


def stale(one):
    """Return what is wrong with a mutant that no longer fits the tree, or nothing."""
    count = (ROOT / SOURCE / one.file).read_text().count(one.old)
    return f"{one.file}: {one.old!r} stands there {count} times" if count != 1 else ""


def run(tree, tests):
    """Return pytest's exit code, None if it took too long."""
    options = ["-x", "-q", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *[str(TESTS / name) for name in tests]]
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}", "TMPDIR": str(tree)}
    try:
        return subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        return None


def main():
    words = sys.argv[1:]
    chosen = [one for one in MUTANTS if not words or any(word in f"{one.file} {one.breaks}" for word in words)]
    problems = [problem for problem in map(stale, MUTANTS) if problem]
    if problems or not chosen:
        sys.exit("\n".join(problems) or f"no mutant is about {words}")
    caught = 0
    with tempfile.TemporaryDirectory(prefix="fedmeta-mutants-") as folder:
        tree = Path(folder)
        for name in CARRIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, tree / name)
        for number, one in enumerate(chosen):
            path = tree / SOURCE / one.file
            whole = path.read_text()
            path.write_text(whole.replace(one.old, one.new))
            # A time of its own, or what was compiled from it before could be taken for it.
            os.utime(path, (10**9 + 2 * number, 10**9 + 2 * number))
            tests = one.tests if (tree / TESTS / one.tests[0]).is_file() else ("test_aggregation.py",)
            code = run(tree, tests)
            path.write_text(whole)
            os.utime(path, (10**9 + 2 * number + 1, 10**9 + 2 * number + 1))
            caught += code == 1
            verdict = {0: "SURVIVED", 1: "caught", None: "TOO SLOW"}.get(code, "BROKEN")
            print(f"{verdict:8}  {one.breaks}  ({one.file})", flush=True)
    print(f"{caught} of {len(chosen)} mutants were caught")
    sys.exit(caught != len(chosen))


if __name__ == "__main__":
    main()
