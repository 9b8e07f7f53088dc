from functools import partial

import pytest

from fedmeta.govern.server.limits import Buckets


@pytest.fixture
def still(monkeypatch):
    """No time passes for what a node that is made now counts by time: who asked too often has it held against it."""
    monkeypatch.setattr("fedmeta.govern.server.app.Buckets", partial(Buckets, clock=lambda: 0))
