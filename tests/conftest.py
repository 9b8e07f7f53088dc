import gc
import os
import shutil
import signal
import sys
import tempfile
from contextlib import nullcontext
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

from beartype.claw import beartype_package

# What the tests measure and compile is neither read from the user's cache nor left there; the workers share it.
os.environ["FEDMETA_CACHE"] = (
    os.environ["FEDMETA_CACHE"] if "PYTEST_XDIST_WORKER" in os.environ else tempfile.mkdtemp(prefix="fedmeta-tests-")
)

# Nearly all of the suite's time is compilation, and on networks this small the later passes gain nothing, nor do the
# emitters of fused loops, which take as long as all the rest. It must be said before JAX starts.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false",
)


import hypothesis
import jax
import pytest

import fedmeta as fm
from tests import toys

# Begun here, so that a command that a test runs in this process does not make a device of each core.
jax.devices()

# A traced program is very many small objects, nearly all of which stay: looking through them less often saves a
# twentieth of the time.
gc.set_threshold(50_000, 20, 50)

# These have no arrays, or say nothing of their shapes. Their annotations are checked, but without an account of shapes
# in each call, with which their tests would take up to several times as long.
SHAPELESS = (
    "govern",
    "_keys",
    "data.tables",
    "data.schema",
    *(f"node.{room}" for room in ("wire", "disk", "transport", "process")),
)
# A simulated federation takes many thousands of small steps; the member's room names types that it imports late.
UNCHECKED = ("node.reducer", "node.simulated", "node.member")


class _Plain(MetaPathFinder):
    """Finds these modules before jaxtyping does."""

    def find_spec(self, fullname, path=None, target=None):
        mine = f"{fullname}.".startswith(tuple(f"fedmeta.{name}." for name in (*SHAPELESS, *UNCHECKED)))
        return PathFinder.find_spec(fullname, path, target) if mine else None


for _name in SHAPELESS:
    beartype_package(f"fedmeta.{_name}")
sys.meta_path.insert(0, _Plain())

# Where a function's annotations are read, beartype holds back what Python warns of, in all threads: one that reads some
# while another warns would lose the warning that a test waits for. Nothing is held back, then.
for _name in ("_decor._nontype._wrap._wrapargs", "_decor._nontype._wrap._wrapreturn", "_check.make.checkmakecls"):
    import_module(f"beartype.{_name}").catch_warnings = lambda **_: nullcontext([])


# Under a shell that starts the tests in the background, Ctrl-C would be ignored by the programs that they start, too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure():
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["FEDMETA_CACHE"], ignore_errors=True)


# Compilation makes the first example of a property slow; the same examples everywhere make a failure repeatable.
hypothesis.settings.register_profile(
    "fedmeta",
    deadline=None,
    derandomize=True,
    max_examples=15,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("fedmeta")


@pytest.fixture
def x64():
    """Double precision inside this test only."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def data():
    """Six clients of unequal sizes, three classes."""
    return toys.classification()


@pytest.fixture(scope="session")
def model():
    """A small network with smooth activations; one object, so that compiled programs are shared."""
    return toys.network()


@pytest.fixture
def real_data():
    """Ask for a source's real files; the test is skipped, with the reason, where they are absent."""

    def need(name):
        if not fm.data.source(name).present:
            pytest.skip(f"the files of {name} are absent: set FEDMETA_DATA or run `fedmeta data get {name}`")

    return need
