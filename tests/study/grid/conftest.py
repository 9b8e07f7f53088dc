import json
import shutil
from pathlib import Path

import pytest

from fedmeta.study.grid import workers
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.run import run
from fedmeta.study.grid.worker import Desk
from tests.study.grid.declared import SEVERAL, SMALL


class TeamHere(workers.Team):
    """Answers as processes would, in this one."""

    def __init__(self, first, count):
        study = Study.parse(first["text"], first["where"], first["stem"], first["tuned"], untuned=True)
        self.said = []
        self.desk = Desk(study, Path(first["folder"]), self.said.append)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ask(self, jobs):
        for job in jobs:
            self.desk.answer(json.loads(job.line))
            for words in self.said:
                yield job, json.loads(json.dumps(words))
            self.said.clear()


def answers_here(first, jobs, count):
    """What processes would answer, computed in this one."""
    return TeamHere(first, count).ask(jobs)


@pytest.fixture
def here(monkeypatch):
    """Cells and candidates are computed in this process."""
    monkeypatch.setattr(workers, "answers", answers_here)
    monkeypatch.setattr(workers, "Team", TeamHere)


def computed(folder, text, name):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workers, "answers", answers_here)
        run(Study.parse(text, f"{name}.toml", name), folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of the small study, finished; it is not changed."""
    return computed(tmp_path_factory.mktemp("small") / "study", SMALL, "small")


@pytest.fixture(scope="session")
def several(tmp_path_factory):
    """The folder of a study with several supports, doses, baselines and what stands beside a model; not changed."""
    return computed(tmp_path_factory.mktemp("several") / "study", SEVERAL, "several")


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the folder of the small study, finished."""
    return Path(shutil.copytree(finished, tmp_path / "study"))
