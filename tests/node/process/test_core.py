"""The core around its reducer: what fails is answered for, and what must go on goes on."""

import asyncio
import contextlib
import errno
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedmeta.govern.wire.signatures import digest
from fedmeta.node.disk.journal import Journal
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.member import config as configs
from fedmeta.node.member import folder as folders
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.process import duties, jobs, status
from fedmeta.node.process.core import Core, lasting, serve
from fedmeta.node.process.gate import SOCKET
from fedmeta.node.process.moves import model_name, scoring_name
from fedmeta.node.reducer import actions as act
from fedmeta.node.reducer import events as ev
from fedmeta.node.reducer import promises_of
from fedmeta.node.reducer.promises import SealPromise, Started, decode, encode
from fedmeta.node.transport.gate import Gate
from fedmeta.node.transport.local import LocalServer
from tests.node.process.moving import view_of

VALUES = {
    "member": "s0",
    "role": "super",
    "ledger.addresses": ("http://127.0.0.1:1",),
    "ledger.genesis": bytes(32),
    "listen.address": "127.0.0.1:1",
    "listen.public": "https://127.0.0.1:1",
}


@contextlib.asynccontextmanager
async def made(folder: Path, trainer: socket.socket | None = None):
    """Give a core whose parts are real, and which follows no ledger yet."""
    if not folder.exists():
        folders.make(folder, VALUES)
    ours, theirs = socket.socketpair()
    core = Core(configs.read(folder), ours)
    core.desk.memory = replace(core.desk.memory, start=1)
    try:
        yield core, theirs
    finally:
        for task in core._tasks.values():
            task.cancel()
        core.close()
        ours.close()
        theirs.close()


def entries(folder: Path):
    journal, found = Journal.open(folder / "core" / "journal")
    journal.close()
    return [decode(one) for one in found]


async def soon(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_duty_that_fails_in_an_unforeseen_way_is_answered_for(tmp_path, monkeypatch):
    async def wrong(*_):
        raise KeyError("nobody has thought of this")

    async def inside():
        async with made(tmp_path / "node") as (core, _):
            monkeypatch.setitem(duties.DONE_BY, act.Drop, wrong)
            core._do(act.Action(1, 7, act.Drop(1, frozenset())))
            found = await asyncio.wait_for(core.desk.events.get(), 20)
            assert isinstance(found, ev.Failed)
            assert (found.number, found.final) == (7, False)

    asyncio.run(inside())


def test_jobs_that_wait_for_a_slow_trainer_keep_no_promise_from_the_disk(tmp_path):
    async def inside():
        async with made(tmp_path / "node") as (core, _):
            waiting = [asyncio.create_task(core.jobs.ask("check", [b"x"])) for _ in range(100)]
            await asyncio.sleep(0.05)
            core._do(act.Action(1, 7, act.Append(SealPromise(1, bytes(32)))))
            found = await asyncio.wait_for(core.desk.events.get(), 20)
            assert isinstance(found, ev.Done)
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(inside())


def test_a_job_that_was_cancelled_before_it_was_begun_is_not_asked(tmp_path):
    asked = []

    def answer(channel):
        with contextlib.suppress(EOFError, OSError):
            while True:
                head, _ = jobs.receive(channel)
                asked.append(head["job"])
                jobs.send(channel, {})

    async def inside():
        async with made(tmp_path / "node") as (core, theirs):
            first = asyncio.create_task(core.jobs.ask("train", []))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(core.jobs.ask("check", []))
            await asyncio.sleep(0.05)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            third = asyncio.create_task(core.jobs.ask("describe", []))
            thread = threading.Thread(target=answer, args=(theirs,))
            thread.start()
            await asyncio.wait_for(asyncio.gather(first, third), 20)
            core.jobs.close()
            thread.join(20)

    asyncio.run(inside())
    assert asked == ["train", "describe"]


def test_a_full_disk_does_not_end_the_writing_of_the_status(tmp_path, monkeypatch):
    written = []

    def write(path, data):
        written.append(path)
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "no space is left")

    monkeypatch.setattr(status, "write_atomically", write)

    async def inside():
        async with made(tmp_path / "node") as (core, _):
            going = asyncio.create_task(lasting(core.status.keep))
            await soon(lambda: len(written) > 1)
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)

    asyncio.run(inside())


def test_a_node_that_was_started_in_vain_again_and_again_can_be_started(tmp_path, monkeypatch):
    folder = tmp_path / "node"
    folders.make(folder, VALUES)
    journal = Journal.create(folder / "core" / "journal", 1 << 16)
    journal.append(encode(SealPromise(3, b"h" * 32)))
    start = 0
    while journal.free >= len(encode(Started(start + 1))):
        start += 1
        journal.append(encode(Started(start)))
    journal.close()

    async def inside():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            core = Core(configs.read(folder), ours)
            monkeypatch.setattr(core.ledger, "start", lambda: None)
            core.stop()
            assert await core.run() == 0

    asyncio.run(inside())
    assert entries(folder) == [Started(start + 1), SealPromise(3, b"h" * 32), Started(start + 1)]


def test_a_promise_that_was_flushed_a_moment_ago_stays_when_the_journal_is_shortened(tmp_path, monkeypatch):
    folder, first, second = tmp_path / "node", SealPromise(1, b"1" * 32), SealPromise(2, b"2" * 32)
    monkeypatch.setattr(duties, "ROOM", 1 << 40)

    async def inside():
        async with made(folder) as (core, _):
            for number, promise in enumerate((first, second)):
                core._do(act.Action(1, number, act.Append(promise)))
            await soon(lambda: core.desk.events.qsize() == 2)
            # The reducer has heard of neither.
            assert promises_of(core.desk.memory) == (Started(1),)

    asyncio.run(inside())
    assert {first, second} <= set(entries(folder))


@pytest.mark.parametrize("how", ["damaged", "no room"])
def test_a_model_that_the_gate_cannot_be_given_does_not_keep_it_from_its_work(how, tmp_path, monkeypatch):
    folder, model = tmp_path / "node", b"m" * 32

    async def inside():
        async with made(folder) as (core, _):
            core.store.write(model_name(model), b"of a model")
            if how == "damaged":
                (file,) = (folder / "core" / "blobs").glob("*~data")
                file.write_bytes(b"or no model")
            with BlobStore(folder / "gate" / "blobs", 1 if how == "no room" else 1 << 20) as kept:
                gate = Gate(kept)
                local = LocalServer(gate)
                await local.start(folder / "gate" / SOCKET)
                core.desk.memory = replace(core.desk.memory, models=frozenset([model]), view=view_of("s0"))
                standing = asyncio.create_task(core.gatekeeping.stand())
                await soon(lambda: gate.standing is not None)
                if how == "damaged":
                    assert await asyncio.wait_for(core.desk.events.get(), 20) == ev.Lost(models=frozenset([model]))
                standing.cancel()
                await asyncio.gather(standing, return_exceptions=True)
                await local.close()
                gate.close()

    asyncio.run(inside())


def test_a_job_that_nobody_waits_for_any_more_ends_the_core_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "GIVEN_UP", 0.05)

    async def inside():
        folders.make(tmp_path / "node", VALUES)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            core = Core(configs.read(tmp_path / "node"), ours)
            monkeypatch.setattr(core.ledger, "start", lambda: None)
            running = asyncio.create_task(core.run())
            training = asyncio.create_task(core.jobs.ask("train", []))
            await asyncio.sleep(0.05)
            assert core.desk.code is None
            training.cancel()
            assert await asyncio.wait_for(running, 20) == 1

    asyncio.run(inside())


def test_a_job_that_ends_after_it_was_cancelled_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "GIVEN_UP", 0.1)

    async def inside():
        async with made(tmp_path / "node") as (core, theirs):
            training = asyncio.create_task(core.jobs.ask("train", []))
            await asyncio.sleep(0.05)
            training.cancel()
            jobs.receive(theirs)
            jobs.send(theirs, {})
            await asyncio.sleep(0.2)
            assert core.desk.code is None

    asyncio.run(inside())


def approve(folder: Path, content: bytes = b"of a procedure"):
    place, recipe = folders.Folder(folder), digest(content)
    place.procedure(recipe).write_bytes(content)
    known = Approvals(place.approvals)
    known.approve(recipe, "ethics 1", None)
    return known, recipe


def test_a_revocation_does_not_wait_for_the_trainer(tmp_path):
    async def inside():
        async with made(tmp_path / "node") as (core, _):
            known, recipe = approve(tmp_path / "node")
            other, second = approve(tmp_path / "node", b"of another one")
            core.approving._approved[recipe] = ev.Approval(recipe, 32, 64, contributes=False)
            # The trainer says nothing of the other one, however long it is asked.
            await asyncio.wait_for(core.approving.look(), 20)
            known.revoke(recipe, "study ended")
            await asyncio.wait_for(core.approving.look(), 20)
            assert await asyncio.wait_for(core.desk.events.get(), 20) == ev.Revoked(recipe)
            other.revoke(second, "study ended")
            await asyncio.wait_for(core.approving.look(), 20)
            assert not core.approving._examined

    asyncio.run(inside())


def test_a_procedure_that_cannot_be_worked_on_is_not_looked_at_each_time(tmp_path):
    asked = []

    def refuse(channel):
        with contextlib.suppress(EOFError, OSError):
            while True:
                asked.append(jobs.receive(channel)[0]["job"])
                jobs.send(channel, {"failed": "no column age"})

    async def inside():
        async with made(tmp_path / "node") as (core, theirs):
            approve(tmp_path / "node")
            thread = threading.Thread(target=refuse, args=(theirs,))
            thread.start()
            for _ in range(5):
                await core.approving.look()
                await asyncio.sleep(0.05)
            assert asked == ["describe"]
            assert "no column age" in core.desk.figures.said[-1]["text"]
            # Who approves it again is heard at once.
            known, recipe = Approvals(folders.Folder(tmp_path / "node").approvals), digest(b"of a procedure")
            known.approve(recipe, "ethics 2", None, now=datetime.now(UTC) + timedelta(minutes=1))
            await core.approving.look()
            await soon(lambda: len(asked) == 2)
            core.jobs.close()
            thread.join(20)

    asyncio.run(inside())


@pytest.mark.parametrize("trace", ["ledger.state", "status.json"])
def test_a_journal_that_is_gone_where_a_core_has_worked_is_not_begun_anew(trace, tmp_path, capsys):
    folder = tmp_path / "node"
    folders.make(folder, VALUES)
    (folder / "core" / trace).write_bytes(b"x")
    ours, theirs = socket.socketpair()
    with theirs:
        code = serve({"folder": str(folder), "trainer": ours.detach()})
    assert code == jobs.HALTED
    assert "fedmeta node recover" in capsys.readouterr().err
    assert not (folder / "core" / "journal").exists()


def test_a_damaged_journal_halts(tmp_path, capsys):
    folder = tmp_path / "node"
    folders.make(folder, VALUES)
    (folder / "core" / "journal").write_bytes(b"no journal")
    ours, theirs = socket.socketpair()
    with theirs:
        assert serve({"folder": str(folder), "trainer": ours.detach()}) == jobs.HALTED
    assert "journal" in capsys.readouterr().err


def test_what_scoring_keeps_of_others_updates_goes_with_the_approval(tmp_path):
    async def inside():
        async with made(tmp_path / "node") as (core, _):
            known, recipe = approve(tmp_path / "node")
            for one in (recipe, digest(b"never approved here")):
                core.store.write(scoring_name(one), b"of others' updates")
            await core.approving.look()
            assert core.store.names() == [scoring_name(recipe)]
            known.revoke(recipe, "study ended")
            await core.approving.look()
            assert not core.store.names()

    asyncio.run(inside())
