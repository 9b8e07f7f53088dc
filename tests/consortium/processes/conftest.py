"""A federation's rounds that several tests look at."""

import pytest

from fedmeta.govern.state.records import Fault
from tests.consortium.processes.played import finals, of_four


@pytest.fixture(scope="package")
def lied():
    """Four seats, of which one opens a wrong result; two rounds are final after that."""
    world = of_four({"s3": ("lie",)})
    world.run(lambda: bool(world.ledger.state.all(Fault)), 300_000)
    return finals(world, len(world.finals) + 2)
