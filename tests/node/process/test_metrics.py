"""A node is ready by the last duty that it did; what it counts is read on loopback."""

import asyncio
from dataclasses import replace

import pytest

from fedmeta.govern.wire import transactions as tx
from fedmeta.node.process import metrics
from fedmeta.node.process.metrics import Figures, exposition, serve_metrics
from fedmeta.node.reducer.actions import Aggregate, Append, Submit, Train
from fedmeta.node.reducer.promises import Started
from fedmeta.node.simulated.world import World


@pytest.fixture(scope="module")
def view():
    """Return what a seat looks at after a round that became final, and in which it did its part."""
    world = World(seed=2)
    assert world.run(lambda: len(world.finals) == 1 and world.hosts["s0"].seen == world.ledger.height)
    return world.hosts["s0"].memory.view


STATUS = {"height": 7, "round": 3, "halted": ""}


def test_readiness_is_the_last_round_s_part_done(view):
    figures = Figures()
    assert not figures.ready
    figures.seen(view)
    assert figures.ready
    assert figures.last_round == {"round": 1, "done": True}
    missed = Figures()
    missed.seen(replace(view, opened_before=frozenset()))
    assert not missed.ready
    assert missed.rounds == {"missed": 1}


def test_a_round_counts_once(view):
    figures = Figures()
    for _ in range(3):
        figures.seen(view)
    assert figures.rounds == {"done": 1}


def test_a_round_without_a_part_of_ours_says_nothing(view):
    figures = Figures()
    figures.seen(replace(view, me="stranger"))
    assert not figures.rounds
    assert figures.ready


def test_a_ledger_that_is_not_seen_any_more_is_not_ready(view, monkeypatch):
    figures = Figures()
    figures.seen(view)
    now = metrics.time.monotonic()
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now + metrics.FRESH + 1)
    assert not figures.ready


def test_duties_and_failures_are_counted_by_kind():
    figures = Figures()
    figures.done(Submit(tx.Seal(4, bytes(32))))
    assert (figures.last_duty["what"], figures.last_duty["round"]) == ("Seal", 4)
    figures.done(Append(Started(1)))
    assert figures.last_duty["what"] == "Seal"
    figures.failed(Train(1, b"r", b"m"), "no")
    assert figures.duties == {"Seal": 1, "Append": 1}
    assert figures.failures == {"Train": 1}
    figures.done(Aggregate(5, 1, b"r", b"m", (), 0, ()))
    assert figures.last_duty["round"] == 5


async def _ask(path):
    figures = Figures()
    figures.tell("look here", True)
    server = asyncio.create_task(serve_metrics(0, figures, lambda: {**STATUS, **figures.status()}, ports := []))
    while not ports:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    return answer


def test_a_monitoring_system_reads_the_figures():
    answer = asyncio.run(_ask("/metrics"))
    assert answer.startswith("HTTP/1.1 200")
    for line in ("fedmeta_node_height 7", "fedmeta_node_alarms_total 1", "# TYPE fedmeta_node_ready gauge"):
        assert line in answer.splitlines()
    assert asyncio.run(_ask("/ready")).startswith("HTTP/1.1 503")
    assert asyncio.run(_ask("/")).startswith("HTTP/1.1 404")


def test_every_line_is_in_prometheus_text_format():
    figures = Figures()
    figures.done(Submit(tx.Seal(4, bytes(32))))
    text = exposition({**STATUS, **figures.status()})
    for line in text.splitlines():
        assert line.startswith(("# HELP fedmeta_node_", "# TYPE fedmeta_node_", "fedmeta_node_"))
        if not line.startswith("#"):
            float(line.rsplit(" ", 1)[1])
