"""A ledger in a process of its own, whose rounds are played by hand, and a gate that answers within the tests' own."""

import asyncio
import contextlib
import threading

import numpy as np

import fedmeta as fm
from fedmeta import pytrees
from fedmeta.govern.client import keyfile
from fedmeta.govern.client.client import Client
from fedmeta.govern.wire import transactions as tx
from fedmeta.node.aggregation import Exact
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.member.folder import Folder
from fedmeta.node.process.federation import LocalFederation
from fedmeta.node.transport.certificates import Certificate
from fedmeta.node.transport.gate import Gate
from fedmeta.node.transport.server import Server
from fedmeta.node.transport.standing import Peer, Standing
from fedmeta.node.wire.chunks import Blob
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure

SEATS = ("north", "east", "south", "west")
MEMBERS = (*SEATS, "coast")
SALT = bytes(32)


def procedure():
    """Return a procedure for the digits."""
    return Procedure(
        algorithm=fm.MetaSGD(),
        server=fm.optimisers.adam(0.02),
        transform=fm.transforms.chain(fm.transforms.clip_by_norm(10.0), fm.transforms.fixed_point(18, 24)),
        model="mlp",
        model_options={"hidden": 16},
        inputs=Inputs.of(fm.data.load("digits")),
        rounds=100,
        cohort_size=len(MEMBERS),
    )


def examples(path):
    """Write a writer's digits as `fedmeta adapt` and `predict` take them, and return the file and how many they are."""
    digits = fm.data.load("digits")
    batch = digits[digits.client_ids[3]]
    np.savez(path, x=np.asarray(batch.x), y=np.asarray(batch.y))
    return path, len(batch.y)


@contextlib.contextmanager
def ledger(folder):
    """Give a federation of which only the ledger runs, with the keys, addresses and certificates of its members."""
    made = procedure()
    exact = Exact(made)
    first = exact.initial()
    data = {name: {"paths": ("digits",), "clients": ("0",)} for name in MEMBERS}
    with LocalFederation(folder, made, first, data, SEATS, interval=0.5) as federation:
        federation.make(exact.result(first))
        federation.start_ledger()
        federation.introduce()
        yield federation


def following(state, rounds):
    """Return the bytes of a state of so many rounds, whose numbers are those of another."""
    exact = Exact(procedure())
    found = exact.read_state(state)
    return pytrees.to_bytes(found._replace(round=np.asarray(rounds, found.round.dtype)))


def play(federation, after):
    """Let the latest round become final with a model, by the words of all members."""
    model, genesis = Blob.of(after).id, federation.genesis.digest
    keys = {name: keyfile.load(Folder(one.folder).keys / "machine.pem") for name, one in federation.hosts.items()}

    def latest():
        return federation.rounds()[-1]

    def all_say(names, words):
        for name in names:
            with Client(federation.address, keys[name], name) as client:
                client.send(words(name), wait=False)

    def in_phase(phase):
        federation._until(lambda: federation.rounds() and latest()["phase"] == phase, f"phase {phase}")
        return latest()

    number = in_phase("commit")["number"]
    all_say(MEMBERS, lambda name: tx.CommitUpdate(number, tx.update_digest(genesis, number, name, SALT, model)))
    opened = in_phase("deliver")
    with federation.client() as client:
        header = client.checked_header(opened["committed"]).hash
    all_say(SEATS, lambda name: tx.Seal(number, header))
    all_say(SEATS, lambda name: tx.Hold(number, 1, tuple(sorted(MEMBERS))))
    in_phase("compute")
    scores = {name: tuple(0 if one == name else 10 for one in sorted(MEMBERS)) for name in SEATS}

    def committed(name):
        return tx.commitment(genesis, number, 1, name, model, scores[name], SALT)

    all_say(SEATS, lambda name: tx.Attest(number, 1, committed(name)))
    in_phase("reveal")
    all_say(SEATS, lambda name: tx.Reveal(number, 1, model, scores[name], SALT))
    federation._until(lambda: any(one["number"] == number for one in federation.finals()), f"round {number} is final")


@contextlib.contextmanager
def gate_of(federation, name, blobs):
    """Let a member's gate answer, with some blobs by their names; ledger and peers are those of now."""
    host, loop, ready, ended = federation.hosts[name], asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    folder = Folder(host.folder)
    with federation.client() as client:
        height, found = client.status()["height"], client.query("members")
    peers = {
        one["name"]: Peer(bytes.fromhex(one["machine"]["public"]), (bytes.fromhex(one["tls"]),) if one["tls"] else ())
        for one in found
    }

    async def serve():
        with BlobStore(folder.gate / "blobs", 10**8) as store:
            for blob, content in blobs.items():
                store.write(blob, content)
            gate = Gate(store)
            gate.standing = Standing(federation.genesis.digest, name, height, 1_000_000, peers)
            server = Server(gate, Certificate.load(folder.tls))
            await server.start("127.0.0.1", host.port)
            ready.set()
            await ended.wait()
            await server.close()
            gate.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)
        loop.close()
