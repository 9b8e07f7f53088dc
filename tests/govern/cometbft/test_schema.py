"""What was generated is what the schema says."""

import subprocess
import sys
from pathlib import Path

import pytest

import fedmeta

SOURCE = Path(fedmeta.__file__).parents[1]
SCHEMA = Path("fedmeta/govern/engines/cometbft/schema.proto")


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """Generate the code a second time."""
    folder = tmp_path_factory.mktemp("generated")
    into = [f"--python_out={folder}", f"--pyi_out={folder}"]
    program = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCE}", *into, str(SOURCE / SCHEMA)]
    subprocess.run(program, check=True, timeout=60)
    return folder


@pytest.mark.parametrize("name", ["schema_pb2.py", "schema_pb2.pyi"])
def test_the_schema_gives_the_generated_code_again(again, name):
    here = SCHEMA.with_name(name)
    assert (again / here).read_text() == (SOURCE / here).read_text(), "run `make proto`"
