"""The public face of the ledger is a contract: exactly these names, described, and light where they can be."""

import ast
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import fedmeta.errors
import fedmeta.govern as govern
from fedmeta.govern import errors
from tests.waiting import PATIENCE

NAMES = {
    "Client",
    "Outcome",
    "LedgerEvent",
    "transactions",
    "Key",
    "load_key",
    "save_key",
    "LightClient",
    "verify_record",
    "verify_transaction",
    "verify_event",
    "is_sealed",
    "Genesis",
    "FirstMember",
    "FirstCandidate",
    "FirstDelegation",
    "FirstRecipe",
    "FirstRegistration",
    "Parameters",
    "EmbeddedEngine",
    "verify_ledger",
    "create_app",
    "Limits",
    "listen",
    "serve",
    "start",
    "execute",
    "Block",
    "Execution",
    "State",
    "query",
    "explain",
    "errors",
    "GovernError",
    "Refused",
    "NodeError",
    "Unacknowledged",
    "ProofError",
    "StoreError",
}


def test_the_face_is_exactly_what_is_promised():
    assert set(govern.__all__) == NAMES
    assert len(govern.__all__) == len(NAMES)
    for name in NAMES:
        assert getattr(govern, name) is not None
    assert dir(govern) == sorted(NAMES)


def test_every_name_is_what_it_says_and_is_documented():
    for name in NAMES:
        value = getattr(govern, name)
        assert inspect.getdoc(value), name
        assert isinstance(value, types.ModuleType) == (name in ("transactions", "errors")), name
        assert name in re.findall(r"`(\w+)`", govern.__doc__), name


def test_the_docstring_names_nothing_else():
    assert set(re.findall(r"`(\w+)`", govern.__doc__)) <= NAMES | {"REFUSALS"}


def test_nothing_else_is_public():
    loose = {
        name
        for name, value in vars(govern).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert loose <= NAMES
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        govern.nothing  # noqa: B018


def test_what_is_checked_is_what_is_imported():
    """The names that a type checker sees are those that are found when the program runs."""
    tree = ast.parse(Path(govern.__file__).read_text("utf-8"))
    checked = next(one for one in tree.body if isinstance(one, ast.If))
    seen = {}
    for one in checked.body:
        for alias in one.names:
            seen[alias.asname or alias.name] = one.module, alias.name
    assert set(seen) == NAMES
    for name, (module, own) in seen.items():
        found = getattr(sys.modules[module], own) if module != "fedmeta.govern" else sys.modules[f"{module}.{own}"]
        assert found is getattr(govern, name), name


def run(program):
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout.split()


HEAVY = ("fastapi", "uvicorn", "starlette", "pydantic", "httpx", "jax", "numpy", "sqlite3")


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import fedmeta.govern", ()),
        ("import fedmeta.govern.wire.codec", ()),
        ("from fedmeta.govern import Key, transactions, Genesis, execute, start, LightClient, errors, query", ()),
        ("from fedmeta.govern import EmbeddedEngine, verify_ledger", ("sqlite3",)),
        ("from fedmeta.govern import Client", ("httpx",)),
    ],
)
def test_nothing_waits_for_what_it_does_not_use(statement, allowed):
    found = run(f"{statement}; import sys; print(*(one for one in {HEAVY!r} if one in sys.modules))")
    assert set(found) <= set(allowed)


def test_no_room_has_the_name_of_something_else():
    rooms = {path.stem for path in Path(govern.__file__).parent.iterdir()} - {"errors"}
    assert not rooms & NAMES


def branches(module):
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.__name__
    }


def test_every_error_stands_in_the_one_tree_as_it_is_drawn():
    for module, root in ((fedmeta.errors, fedmeta.errors.FedmetaError), (errors, errors.GovernError)):
        drawn = re.findall(r"^(?:│   |    )*(?:├── |└── )?(\w+) ", module.__doc__ + " ", re.MULTILINE)
        drawn = {one for one in drawn if one[0].isupper() and one != "Every"} | {root.__name__}
        assert drawn - {"GovernError"} == branches(module) - {"GovernError"}
        for name in branches(module):
            assert issubclass(getattr(module, name), fedmeta.errors.FedmetaError)
    assert issubclass(errors.GovernError, fedmeta.errors.FedmetaError)
    assert "GovernError" in fedmeta.errors.__doc__


def test_the_ledger_raises_no_error_of_another_tree_of_its_own():
    for path in Path(govern.__file__).parent.rglob("*.py"):
        for one in ast.walk(ast.parse(path.read_text("utf-8"))):
            bases = [ast.unparse(base) for base in one.bases] if isinstance(one, ast.ClassDef) else []
            if any(base.endswith(("Error", "Exception")) for base in bases):
                assert path.name == "errors.py" or one.name.startswith("_"), (path, one.name)
