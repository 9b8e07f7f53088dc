"""The trainer: a job that fails, however, is answered, and the next one is done."""

import socket
import threading

from fedmeta.node.process import jobs, trainer
from tests.node.member.made import GENESIS


def test_a_job_that_fails_in_an_unforeseen_way_is_answered_and_the_next_one_done(tmp_path, monkeypatch):
    def wrong(*_):
        raise IndexError("nobody has thought of this")

    monkeypatch.setattr(trainer, "JOBS", {"wrong": wrong, "right": lambda *_: ({}, [b"done"])})
    monkeypatch.setattr(trainer.Exact, "known_answer", lambda: None)
    core, own = socket.socketpair()
    config = {"member": "coast", "ledger": {"addresses": ["http://127.0.0.1:1"], "genesis": GENESIS}}
    ended = []

    def serve():
        ended.append(trainer.serve({"fd": own.detach(), "folder": str(tmp_path), "config": config}))

    thread = threading.Thread(target=serve)
    thread.start()
    with core:
        core.settimeout(20)
        jobs.send(core, {"job": "wrong"})
        assert jobs.receive(core) == ({"failed": "IndexError: nobody has thought of this"}, [])
        jobs.send(core, {"job": "unknown"})
        assert jobs.receive(core) == ({"failed": "KeyError: 'unknown'"}, [])
        jobs.send(core, {"job": "right"})
        assert jobs.receive(core) == ({}, [b"done"])
    thread.join(20)
    assert ended == [0]
