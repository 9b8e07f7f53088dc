"""CometBFT's process, played by a pretender: started again, watched, and ended in every case."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedmeta.govern.engines.cometbft import child as children
from fedmeta.govern.engines.cometbft import home as homes
from fedmeta.govern.engines.cometbft.child import (
    Child,
    ConsensusFailure,
    Ended,
    GoesOn,
    Patience,
    StandsStill,
    Started,
)
from fedmeta.govern.engines.cometbft.config import Settings
from fedmeta.govern.errors import EngineError, KeyFileError
from fedmeta.govern.wire.signatures import Key
from tests.examples import in_soak
from tests.govern.cometbft.network import PARAMETERS, ROOT, alive
from tests.waiting import until

SECONDS = 30
QUICK = Patience(first_pause=0.05, longest_pause=0.2, soon=30, look=0.05, still=0.5, restart=1_000, end=5)


@pytest.fixture
def home(tmp_path):
    """A folder with what the pretender does: it lives, at height 1."""
    genesis = homes.genesis_json("chain", 0, PARAMETERS)
    found = homes.create(tmp_path / "c", genesis, Key.from_seed(bytes(32)), Key.from_seed(bytes(range(32))))
    (found.folder / "do").write_text("live")
    (found.folder / "height").write_text("1")
    return found


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "cometbft"
    path.write_text(f"#!{sys.executable}\n{Path(__file__).with_name('pretender.py').read_text()}")
    path.chmod(0o755)
    return path


def settings_of(home):
    return Settings(name="n", application=home.application, rpc=home.rpc)


def played(home, program, play, patience=QUICK, listens=True):
    """Run a child while `play(child, news)` runs, and end it; return the news."""
    news = []

    async def run():
        async with contextlib.AsyncExitStack() as stack:
            if listens:
                server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), home.application)
                stack.callback(server.close)
            child = Child(program, home, settings_of(home), news.append, patience)
            running = asyncio.create_task(child.run())
            playing = asyncio.create_task(play(child, news))
            try:
                await asyncio.wait({running, playing}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
                assert running.done() or playing.done(), news
                if playing.done():
                    playing.result()
            finally:
                playing.cancel()
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
            assert child.pid is None
        return news

    return asyncio.run(run())


def of(news, kind):
    return [one for one in news if isinstance(one, kind)]


async def reached(condition):
    while not (found := condition()):
        await asyncio.sleep(0.01)
    return found


def test_any_end_is_a_crash_after_which_it_starts_again_ever_later(home, program):
    (home.folder / "do").write_text("exit 0")
    news = played(home, program, lambda child, news: reached(lambda: len(of(news, Ended)) >= 4))
    assert [(one.code, one.pause) for one in of(news, Ended)[:4]] == [(0, 0.05), (0, 0.1), (0, 0.2), (0, 0.2)]
    assert len({one.pid for one in of(news, Started)}) >= 4


def test_who_ran_long_is_started_again_soon(home, program):
    async def play(child, news):
        for times in range(1, 3):
            await reached(lambda times=times: len(of(news, Started)) == times)
            await asyncio.sleep(0.1)
            os.kill(child.pid, signal.SIGKILL)
        await reached(lambda: len(of(news, Ended)) == 2)

    news = played(home, program, play, QUICK._replace(soon=0.1))
    assert [(one.code, one.pause) for one in of(news, Ended)] == [(-signal.SIGKILL, 0.05)] * 2


def test_a_consensus_failure_is_told_and_the_process_left_alone(home, program):
    (home.folder / "do").write_text("fail")
    news = played(home, program, lambda child, news: reached(lambda: of(news, ConsensusFailure)))
    (failure,) = of(news, ConsensusFailure)
    assert failure.line == "E[0] CONSENSUS FAILURE!!! module=consensus err=wrong"
    assert of(news, Ended) == []


def test_what_it_writes_is_kept_up_to_a_size(home, program, monkeypatch):
    monkeypatch.setattr(children, "LOG_BYTES", 40)

    async def play(child, news):
        for times in range(1, 5):
            await reached(lambda times=times: len(of(news, Started)) == times)
            await reached(lambda: child.log.exists() and f"started {child.pid}" in child.log.read_text())
            child.restart()
        return child.log

    played(home, program, play)
    logs = [home.folder / "cometbft.log", home.folder / "cometbft.log.1"]
    assert all(0 < path.stat().st_size <= 40 for path in logs)
    assert "".join(path.read_text() for path in reversed(logs)).count("started") >= 2


def test_a_height_that_stands_still_is_told_once_and_so_is_the_next_block(home, program):
    def seen(news):
        # Before it is asked for the first time it may have been silent for long, on a machine that is busy.
        return [(type(one), one.height) for one in news if isinstance(one, StandsStill | GoesOn) and one.height > 0]

    async def play(child, news):
        await reached(lambda: (StandsStill, 1) in seen(news))
        await asyncio.sleep(0.6)
        (home.folder / "height").write_text("2")
        await reached(lambda: (StandsStill, 2) in seen(news))

    news = played(home, program, play)
    assert [one for one in seen(news) if one != (GoesOn, 1)] == [(StandsStill, 1), (GoesOn, 2), (StandsStill, 2)]
    assert all(one.seconds >= 0.5 for one in of(news, StandsStill))


def test_one_that_stands_still_for_long_is_started_again_but_not_before_the_first_block(home, program):
    patience = QUICK._replace(still=0.1, restart=0.3)
    (home.folder / "height").write_text("0")

    async def play(child, news):
        await reached(lambda: of(news, StandsStill))
        await asyncio.sleep(1)
        assert of(news, Ended) == []
        (home.folder / "height").write_text("5")
        await reached(lambda: len(of(news, Started)) == 2)

    played(home, program, play, patience)


@in_soak
def test_one_that_is_paused_is_noticed_started_again_and_ended(home, program):
    async def play(child, news):
        await reached(lambda: home.rpc.exists())
        await asyncio.sleep(0.3)
        os.kill(child.pid, signal.SIGSTOP)
        await reached(lambda: of(news, StandsStill))
        child.restart()
        await reached(lambda: len(of(news, Started)) == 2)
        os.kill(child.pid, signal.SIGSTOP)

    news = played(home, program, play)
    assert not any(alive(one.pid) for one in of(news, Started))


def test_one_that_does_not_hear_is_killed(home, program):
    (home.folder / "do").write_text("deaf")
    news = played(home, program, lambda child, news: reached(home.rpc.exists), QUICK._replace(end=0.2))
    assert not alive(of(news, Started)[0].pid)


def test_it_does_not_outlive_a_parent_that_is_killed(home, program):
    text = f"""
import asyncio
from pathlib import Path
from fedmeta.govern.engines.cometbft.child import Child, Started
from fedmeta.govern.engines.cometbft.config import Settings
from fedmeta.govern.engines.cometbft.home import Home

home = Home(Path({str(home.folder)!r}))

def told(one):
    print(one.pid, flush=True)

async def run():
    async with await asyncio.start_unix_server(lambda reader, writer: writer.close(), home.application):
        settings = Settings(name="n", application=home.application, rpc=home.rpc)
        await Child(Path({str(program)!r}), home, settings, told).run()

asyncio.run(run())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        until(home.rpc.exists)
        assert alive(pid)
        parent.kill()
    until(lambda: not alive(pid))


def test_a_validator_that_must_not_start_does_not(home, program):
    home.signing_state.unlink()

    async def forever(child, news):
        await asyncio.Event().wait()

    with pytest.raises(KeyFileError, match="sign two blocks"):
        played(home, program, forever)
    home.signing_state.write_text(json.dumps({"height": "3", "round": 0, "step": 0}))
    with pytest.raises(EngineError, match="cannot start"):
        played(home, program.with_name("none"), forever)


def test_it_does_not_run_twice_in_one_folder(home, program):
    async def play(child, news):
        await reached(home.rpc.exists)
        with pytest.raises(EngineError, match="another process runs CometBFT"):
            await Child(program, home, settings_of(home), news.append).run()
        assert home.rpc.exists()

    assert [type(one) for one in played(home, program, play)] == [Started]
    played(home, program, lambda child, news: reached(lambda: of(news, Started)))


def test_it_may_run_in_a_thread_of_its_own(home, program):
    def play(child, news):
        return reached(home.rpc.exists)

    with ThreadPoolExecutor(1) as pool:
        (started,) = pool.submit(played, home, program, play).result(SECONDS)
    assert not alive(started.pid)


def test_it_waits_for_the_application(home, program):
    async def play(child, news):
        await asyncio.sleep(0.3)
        assert news == []
        server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), home.application)
        await reached(lambda: of(news, Started))
        server.close()

    played(home, program, play, listens=False)
