"""Processes that are started find the tests' own modules wherever this is."""

import os
from pathlib import Path

ROOT = str(Path(__file__).parents[3])
given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([ROOT, *filter(None, given)]))
