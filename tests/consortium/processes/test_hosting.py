"""What is made for four hospitals before a process runs: a ledger, a node's folder for each, and its own table."""

import csv
import os
import tempfile
from pathlib import Path

import pytest

from fedmeta.consortium import hospitals, methods
from fedmeta.consortium.processes.hosting import FREE, OWN, PARAMETERS, Consortium, own_users
from fedmeta.consortium.processes.wire import Counter
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.state.records import Registration, Term
from fedmeta.govern.views.holdings import holdings
from fedmeta.node.aggregation import Exact
from fedmeta.node.member import config
from fedmeta.node.member.folder import Folder

NAMES = tuple(hospitals.TITLES)


@pytest.fixture(scope="module")
def made():
    """The four hospitals of the stand-in, none of whose processes runs."""
    procedure = methods.procedure()
    exact = Exact(procedure)
    state = exact.initial()
    with tempfile.TemporaryDirectory(prefix="fm", dir="/tmp") as folder, Counter() as counter:
        found = Consortium(
            Path(folder) / "f",
            procedure,
            state,
            {name: {} for name in NAMES},
            NAMES,
            parameters=PARAMETERS,
            approved=False,
            patients=hospitals.drawn(),
            counter=counter,
            dishonest="zurich",
        )
        found.make(exact.result(state))
        yield found


def test_each_hospitals_table_is_a_file_of_its_own_that_nobody_else_is_told_of(made):
    for one in made.patients:
        table = made.table(one.name)
        assert table.stat().st_mode & 0o777 == 0o600
        assert len(list(csv.DictReader(table.read_text().splitlines()))) == len(one)
        text = (made.hosts[one.name].folder / "node.toml").read_text()
        assert [other for other in NAMES if str(made.table(other)) in text] == [one.name]
        assert not table.is_relative_to(made.hosts[one.name].folder), "a core may read all of its folder"


def test_each_hospitals_ways_out_are_its_own_proxy_and_its_own_relay(made):
    settings = {name: config.read(made.hosts[name].folder) for name in NAMES}
    ways = [one.network.proxy for one in settings.values()]
    ways += [address for one in settings.values() for address in one.ledger.addresses]
    assert len(set(ways)) == 2 * len(NAMES)
    assert not any(f":{made.ledger_port}" in one for one in ways)


def test_at_first_one_alone_has_a_seat_nobody_contributes_and_all_have_as_much(made):
    state = start(made.genesis).state
    for number in (1, 2):
        assert [seat.candidate for seat in state.need(Term, number).seats] == [NAMES[0]]
    assert not state.all(Registration)
    assert {holdings(state, name).total for name in NAMES} == {FREE + OWN[0]}


def test_nobody_has_approved_anything_before_it_is_told_to(made):
    assert not any(Folder(one.folder).approvals.exists() for one in made.hosts.values())
    made.approve("zurich")
    there = {name for name, one in made.hosts.items() if Folder(one.folder).approvals.exists()}
    assert there == {"zurich"}


def test_the_liars_node_alone_is_started_otherwise(made):
    changed = {name for name in (*NAMES, "ledger") if "dishonest" in made.program(name)[-1]}
    assert changed == {"zurich"}


def test_a_lost_disk_takes_all_of_the_core_and_leaves_the_rest(made):
    folder = Folder(made.hosts["budapest"].folder)
    before = {one: one.read_bytes() for one in folder.path.rglob("*") if one.is_file()}
    assert any(one.is_relative_to(folder.core) for one in before)
    made.lose_disk("budapest")
    assert list(folder.core.iterdir()) == []
    assert folder.core.stat().st_mode & 0o777 == 0o700
    left = {one: one.read_bytes() for one in folder.path.rglob("*") if one.is_file()}
    assert left == {one: content for one, content in before.items() if not one.is_relative_to(folder.core)}


def test_only_root_gives_processes_users_of_their_own(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert own_users(NAMES) == ({}, "only root can start processes under other users")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes under other users")
def test_users_of_their_own_are_twelve_that_nobody_has():
    import pwd

    found, why = own_users(NAMES)
    if why:
        assert "cannot be read by other users" in why
        return
    numbers = [one for three in found.values() for one in three]
    assert len(set(numbers)) == 3 * len(NAMES)
    assert not {one.pw_uid for one in pwd.getpwall()} & set(numbers)
