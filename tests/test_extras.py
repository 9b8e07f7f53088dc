"""The core stands alone; what needs more says in one line which extra brings it."""

import ast
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fedmeta
import fedmeta as fm
from fedmeta import cli
from fedmeta._extras import EXTRAS, need, need_extra

PACKAGE = Path(fedmeta.__file__).parent
PROJECT = Path(__file__).parent.parent / "pyproject.toml"

HOMES = ("fedmeta.govern", "fedmeta.node", "fedmeta.data.tables")
"""What works with its extra only: here, packages of extras are imported as any other."""

BEHIND = (
    *HOMES,
    "fedmeta.cli.ledger",
    "fedmeta.cli.node",
    "fedmeta.consortium.processes",
    "fedmeta.consortium.planted",
)
"""What is only imported once `need` or `need_extra` has looked."""


def said(what, package):
    return f"{what} needs the package {package}, which is not installed: pip install 'fedmeta[{EXTRAS[package]}]'"


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """What a process without any extra does."""
    folder = tmp_path_factory.mktemp("core")
    program = Path(__file__).with_name("without_extras.py")
    done = subprocess.run([sys.executable, program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


def test_the_core_trains_evaluates_saves_and_loads(core):
    seen, _ = core
    assert seen["rounds heard"] == 2
    assert seen["query examples"] > 0
    assert seen["loaded"]
    assert seen["stored"] == 4
    assert seen["csv"].splitlines()[0].startswith("client,support,query,")
    assert seen["imported"] == []


def test_a_command_without_reports_finishes_and_says_what_was_not_written(core):
    seen, folder = core
    train = seen["train"]
    assert train["code"] == 0, train["err"]
    assert f"fedmeta: report.html was not written: {said('a report', 'jinja2')}" in train["err"].splitlines()
    assert "FedAvg" in train["out"]
    assert "model.safetensors" in train["out"]
    assert "Report" not in train["out"]
    assert not (folder / "run" / "report.html").exists()
    assert (folder / "run" / "evaluation.json").exists()


def test_a_comparison_without_reports_finishes_and_says_what_was_not_written(core):
    seen, folder = core
    compare = seen["compare"]
    assert compare["code"] == 0, compare["err"]
    lines = [line for line in compare["err"].splitlines() if "not written" in line]
    assert lines == [f"fedmeta: comparison.png and report.html were not written: {said('a report', 'jinja2')}"]
    assert "comparison.json" in compare["out"]
    assert "Picture" not in compare["out"]
    assert (folder / "compared" / "comparison.json").exists()


def test_rows_per_client_are_written_without_tables(core):
    seen, folder = core
    assert seen["evaluate"]["code"] == 0, seen["evaluate"]["err"]
    lines = (folder / "clients.csv").read_text().splitlines()
    assert len(lines) == 1 + json.loads((folder / "run" / "evaluation.json").read_text())["clients"]


@pytest.mark.parametrize(
    ("command", "what", "package"),
    [
        ("ledger", "the ledger", "cryptography"),
        ("ledger --help", "the ledger", "cryptography"),
        ("node", "a node", "cryptography"),
        ("table", "reading {folder}/table.csv", "pyarrow"),
        ("tensorboard", "TensorBoard", "tensorboardX"),
    ],
)
def test_a_command_that_needs_an_extra_is_one_line_and_misuse(core, command, what, package):
    seen, folder = core
    assert seen[command] == {
        "code": 2,
        "out": "",
        "err": f"fedmeta: {said(what.format(folder=folder), package)}\n",
    }


def test_help_needs_no_extra(core):
    assert core[0]["help"]["code"] == 0
    assert all(name in core[0]["help"]["out"] for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("feature", "what", "package"),
    [
        ("history", "the history as a table", "pyarrow"),
        ("per_client", "a table of clients", "pyarrow"),
        ("curve", "the curve as a table", "pyarrow"),
        ("from_table", "reading {folder}/table.csv", "pyarrow"),
        ("from_nnx", "Model.from_nnx", "flax"),
        ("from_equinox", "Model.from_equinox", "equinox"),
        ("tensorboard", "TensorBoard", "tensorboardX"),
        ("govern", "the ledger", "cryptography"),
        ("fm.govern", "the ledger", "cryptography"),
    ],
)
def test_what_needs_an_extra_says_in_one_line_which(core, feature, what, package):
    seen, folder = core
    assert seen["refused"][feature] == said(what.format(folder=folder), package)


@pytest.mark.parametrize("package", EXTRAS)
def test_each_package_that_is_missing_alone_is_named(monkeypatch, package):
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: need(package, "this"), lambda: need_extra(EXTRAS[package], "this")):
        with pytest.raises(fm.errors.MissingPackage) as error:
            call()
        assert str(error.value) == said("this", package)
    for extra in set(EXTRAS.values()) - {EXTRAS[package]}:
        need_extra(extra, "this")


def test_a_package_that_is_there_and_misses_another_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "equinox.py").write_text("import surely_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "equinox"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        need("equinox", "this")


def test_what_is_missing_can_be_caught_as_an_import_error_and_as_misuse():
    assert issubclass(fm.errors.MissingPackage, ImportError)
    assert issubclass(fm.errors.MissingPackage, fm.errors.UsageError)


MODULES = {
    ".".join(("fedmeta", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(tree, *, functions):
    """Return the names of the modules that a program imports when it runs; within functions too, or outside only."""
    found, waiting = set(), [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        elif functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def within(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_packages_of_extras_are_imported_by_need_alone():
    wrong = {
        name: sorted(found)
        for name, path in MODULES.items()
        if not within(name, HOMES)
        and (found := {m for m in imports(ast.parse(path.read_text()), functions=True) if within(m, EXTRAS)})
    }
    assert wrong == {}
    assert any(imports(ast.parse(MODULES["fedmeta.data.tables.sources"].read_text()), functions=False) & set(EXTRAS))


def test_nothing_that_works_without_an_extra_imports_what_does_not():
    wrong = {
        name: sorted(found)
        for name, path in MODULES.items()
        if not within(name, BEHIND)
        and (found := {m for m in imports(ast.parse(path.read_text()), functions=False) if within(m, BEHIND)})
    }
    assert wrong == {}


def test_every_need_names_a_package_of_an_extra():
    asked = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "need":
                module = node.args[0]
                assert isinstance(module, ast.Constant), f"{path}, line {node.lineno}"
                asked.add(module.value.partition(".")[0])
    assert asked == {package for package, extra in EXTRAS.items() if extra not in ("ledger", "cometbft")}


DISTRIBUTIONS = {"OpenSSL": "pyOpenSSL", "google.protobuf": "protobuf", "PIL": "pillow"}
"""By module, the distribution that brings it, where its name is another one."""


def normal(requirement):
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def test_every_extra_brings_its_packages_and_all_brings_every_extra():
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    assert not {normal(text) for text in project["dependencies"]} & {package.lower() for package in EXTRAS}
    for extra in set(EXTRAS.values()):
        modules = (package for package, bringer in EXTRAS.items() if bringer == extra)
        brought = {DISTRIBUTIONS.get(one, one).lower().replace("_", "-") for one in modules}
        assert brought == {normal(text) for text in extras[extra]}
    assert set(extras) == {*EXTRAS.values(), "all", "dev"}
    (all_of_them,) = extras["all"]
    assert set(re.fullmatch(r"fedmeta\[(.*)\]", all_of_them)[1].split(",")) == set(EXTRAS.values())
    assert "fedmeta[all]" in extras["dev"]


def test_what_the_core_imports_is_what_it_requires():
    dependencies = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    owners = importlib.metadata.packages_distributions()
    foreign = {
        module.partition(".")[0]
        for name, path in MODULES.items()
        if not within(name, HOMES)
        for module in imports(ast.parse(path.read_text()), functions=True)
    } - {*sys.stdlib_module_names, "fedmeta", "fedmeta_script"}
    assert {normal(owners[package][0]) for package in foreign} == {normal(text) for text in dependencies}


@pytest.mark.parametrize("program", ["import fedmeta", "import fedmeta.cli; fedmeta.cli.main(['--help'])"])
def test_nothing_heavy_is_imported_before_it_is_asked_for(program):
    look = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    done = subprocess.run([sys.executable, "-c", look + program], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "fedmeta" in loaded
    assert not loaded & {"jax", "jaxlib", "numpy", "scipy", "sklearn", "optax", "rich", "filelock", *EXTRAS}


def test_the_help_says_of_each_command_what_the_command_says():
    for name, where in cli.COMMANDS.items():
        module, attribute = where.split(":")
        assert cli.SUMMARIES[name] == getattr(importlib.import_module(module), attribute).get_short_help_str(100)
