"""Tries every sabotage of the ledger in a copy of the tree: `make mutants`.

A mutant that no test notices is a rule that nobody tests.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.govern.sabotages import MUTANTS

ROOT = Path(__file__).parents[2]
SOURCE, TESTS = Path("src/fedmeta/govern"), Path("tests/govern")
COPIES, SECONDS = 2, 180
CARRIED = ("src", "tests", "docs", "pyproject.toml")

# The ledger's tests need no JAX, and a property that fails need not be made small.
CONFTEST = """
import hypothesis
from hypothesis import Phase

phases = [Phase.explicit, Phase.generate]
hypothesis.settings.register_profile(
    "mutants", deadline=None, derandomize=True, database=None, max_examples=25, phases=phases,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("mutants")
"""


def stale(one):
    """Return what is wrong with a mutant that no longer fits the tree, or nothing."""
    count = (ROOT / SOURCE / one.file).read_text().count(one.old)
    if count != 1:
        return f"{one.file}: {one.old!r} stands there {count} times"
    missing = [name for name in one.tests if not (ROOT / TESTS / name).is_file()]
    return f"{missing} are no tests" if missing else ""


def copy(folder):
    for name in CARRIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, folder / name)
    (folder / "tests/conftest.py").write_text(CONFTEST)


def run(tree, tests):
    """Return pytest's exit code, None if it took too long, and the first test that failed."""
    names = [str(TESTS / name) for name in tests]
    options = ["-x", "-q", "-n0", "-rfE", "-p", "no:cacheprovider", "-o", "addopts="]
    command = [sys.executable, "-m", "pytest", *options, *names]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "TMPDIR": str(tree)}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return None, ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, failed[0].split(" - ")[0].split("/govern/")[-1] if failed else done.stdout[-500:]


def attempt(number, one, trees):
    """Try one mutant in a copy of the tree that is free; return whether it was caught, and a line about it."""
    tree = trees.get()
    path = tree / SOURCE / one.file
    whole = path.read_text()
    try:
        _write(path, whole.replace(one.old, one.new), 2 * number)
        code, said = run(tree, one.tests)
    finally:
        _write(path, whole, 2 * number + 1)
        trees.put(tree)
    verdict = {0: "SURVIVED", 1: "caught", None: "TOO SLOW"}.get(code, "BROKEN")
    return code == 1, f"{verdict:8}  {one.breaks}  ({one.file}; {said.strip() if code else ', '.join(one.tests)})"


def _write(path, text, number):
    """Write a file with a time of its own, or what was compiled from it before could be taken for it."""
    path.write_text(text)
    os.utime(path, (10**9 + number, 10**9 + number))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="try only those whose file or meaning holds one of these words")
    words = parser.parse_args().words
    chosen = [one for one in MUTANTS if not words or any(word in f"{one.file} {one.breaks}" for word in words)]
    problems = [problem for problem in map(stale, MUTANTS) if problem]
    if problems or not chosen:
        sys.exit("\n".join(problems) or f"no mutant is about {words}")
    trees = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="fedmeta-mutants-") as folder:
        for number in range(COPIES):
            tree = Path(folder) / str(number)
            copy(tree)
            trees.put(tree)
        tests = sorted({name for one in chosen for name in one.tests})
        code, said = run(tree, tests)
        if code != 0:
            sys.exit(f"the tests fail without any mutant: {said}")
        with ThreadPoolExecutor(COPIES) as pool:
            tried = [pool.submit(attempt, number, one, trees) for number, one in enumerate(chosen)]
            caught = 0
            for future in tried:
                good, line = future.result()
                caught += good
                print(line, flush=True)
    print(f"{caught} of {len(chosen)} mutants were caught")
    sys.exit(caught != len(chosen))


if __name__ == "__main__":
    main()
