"""What a core installation does, in a process in which no package of an extra can be imported.

It is run by `test_extras` as a program of its own: `python tests/without_extras.py FOLDER`. It writes what it saw as
JSON to standard output.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from fedmeta._extras import EXTRAS


class _NotInstalled:
    """Stands first among the finders, and finds that there is no such package."""

    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{package}.") for package in EXTRAS):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, _NotInstalled())

import numpy as np  # noqa: E402 (after the finder)

import fedmeta as fm  # noqa: E402 (after the finder)
from fedmeta.cli import main  # noqa: E402 (after the finder)

FOLDER = Path(sys.argv[1])


def command(*arguments):
    """Run a command; return its exit code and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            return {"code": ended.code, "out": out.getvalue(), "err": err.getvalue()}


def refused(use):
    """Return what is said where a package is missed."""
    try:
        use()
    except fm.errors.MissingPackage as error:
        return str(error)


def govern():
    import fedmeta.govern  # noqa: F401


draw = np.random.default_rng(0)
x = draw.normal(size=(40, 4)).astype(np.float32)
clients = np.repeat([f"c{number}" for number in range(4)], 10)
data = fm.data.from_arrays(x, (x[:, 0] > 0).astype(np.int32), clients)
model = fm.models.softmax_regression(4, 2)
heard = []
run = fm.train(fm.FedAvg(), model, data, rounds=2, directory=FOLDER / "arrays", listeners=[heard.append])
report = fm.evaluate(fm.FedAvg(), model, run.phi, data)
fm.save(FOLDER / "phi.safetensors", run.phi)
loaded = fm.load(FOLDER / "phi.safetensors", run.phi)
fm.data.save(data, FOLDER / "data")

table = FOLDER / "table.csv"
table.write_text("who,a,y\nc0,1,0\nc0,2,1\n")
digits = ("--data", "digits", "--rounds", 2)
FREE = ("--baselines", "free")
seen = {
    "rounds heard": sum(isinstance(event, fm.events.RoundEnded) for event in heard),
    "query examples": report.summary()["query_examples"],
    "csv": report.per_client_csv(),
    "loaded": fm.digest(loaded) == fm.digest(run.phi),
    "stored": fm.data.open(FOLDER / "data").num_clients,
    "train": command("train", *digits, "--algorithm", "fedavg", "--out", FOLDER / "run", *FREE),
    "evaluate": command("evaluate", FOLDER / "run", "--per-client", FOLDER / "clients.csv"),
    "compare": command("compare", *digits, "--algorithms", "fedavg", "--out", FOLDER / "compared", *FREE),
    "table": command("data", "info", table, "--client", "who", "--target", "y"),
    "tensorboard": command(
        "train", *digits, "--algorithm", "fedavg", "--out", FOLDER / "board", "--tensorboard", FOLDER / "events", *FREE
    ),
    "ledger": command("ledger", "init", FOLDER / "fed"),
    "ledger --help": command("ledger", "--help"),
    "node": command("node", "outbox", "--folder", FOLDER),
    "help": command("--help"),
    "refused": {
        "history": refused(lambda: run.history),
        "per_client": refused(lambda: report.per_client),
        "curve": refused(lambda: report.curve),
        "from_table": refused(lambda: fm.data.from_table(table, client="who", target="y")),
        "from_nnx": refused(lambda: fm.Model.from_nnx(lambda rngs: None)),
        "from_equinox": refused(lambda: fm.Model.from_equinox(lambda key: None)),
        "tensorboard": refused(lambda: fm.events.TensorBoard(FOLDER / "events")),
        "govern": refused(govern),
        "fm.govern": refused(lambda: fm.govern),
    },
    "imported": sorted(set(EXTRAS) & set(sys.modules)),
}
json.dump(seen, sys.stdout)
