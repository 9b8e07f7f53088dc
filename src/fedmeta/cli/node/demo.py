"""`fedmeta node demo`: six members with the digits data, four of them super nodes, as processes on this machine."""

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedmeta.errors import UsageError

if TYPE_CHECKING:
    from fedmeta.node.process.federation import LocalFederation

MEMBERS = ("north", "east", "south", "west", "coast", "hill")
SEATS = 4
"""How many of them stand for super node, the first."""

NEWCOMERS = 6
"""Writers who belong to no member: each adapts the model at the end."""

PATIENCE = 170.0
"""Seconds after which the demonstration gives up."""


@click.command(short_help="Run six members as processes on this machine.")
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1), help="Final rounds to wait for.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the ledger, the nodes and their logs are kept.  [default: a folder that is removed]",
)
@click.option("--kill", "with_kill", is_flag=True, help="Kill a super node in the second round, and start it again.")
def demo(rounds: int, out: Path | None, with_kill: bool) -> None:
    """Run a federation of six members with the digits data, as processes on this machine.

    Each member has nine writers' digits, which its trainer alone reads. Four of them are super nodes: they are elected,
    take the sealed updates, compute the next model each by itself, and agree on the ledger. It takes a minute or two.

    \b
    Example:
      fedmeta node demo --rounds 4 --kill
    """
    from fedmeta.cli.start import start

    start()
    import fedmeta as fm
    from fedmeta.node.aggregation import Exact
    from fedmeta.node.process.federation import LocalFederation
    from fedmeta.runs.inputs import Inputs
    from fedmeta.runs.procedure import Procedure

    if out is not None and out.exists():
        raise UsageError(f"--out is {out}: it exists, and a demonstration begins in a new folder")
    digits = fm.data.load("digits")
    writers = digits.client_ids
    share = (len(writers) - NEWCOMERS) // len(MEMBERS)
    procedure = Procedure(
        algorithm=fm.MetaSGD(),
        server=fm.optimisers.adam(0.02),
        transform=fm.transforms.chain(fm.transforms.clip_by_norm(10.0), fm.transforms.fixed_point(18, 24)),
        model="mlp",
        model_options={"hidden": 32},
        inputs=Inputs.of(digits),
        rounds=1_000,
        cohort_size=len(MEMBERS),
    )
    exact = Exact(procedure)
    state = exact.initial()
    data: dict[str, dict[str, Any]] = {
        name: {"paths": ("digits",), "clients": tuple(writers[at * share : (at + 1) * share])}
        for at, name in enumerate(MEMBERS)
    }
    # The sockets of a node need short paths.
    place = Path(tempfile.mkdtemp(prefix="fedmeta-demo-")) / "d" if out is None else out.absolute()
    begun = time.monotonic()
    # Told to end, it ends all that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with LocalFederation(place, procedure, state, data, MEMBERS[:SEATS]) as federation:
            federation.make(exact.result(state))
            _say(begun, f"a ledger and {len(MEMBERS)} members, {SEATS} of them super nodes, in {place}")
            federation.start_ledger()
            federation.introduce()
            for name in MEMBERS:
                federation.start(name)
            _say(begun, "all processes are started: they read their data and compile")
            _watch(federation, rounds, begun, with_kill)
            final = federation.finals()[-1]
            federation.close()
            after = federation.model(bytes.fromhex(final["result"]))
        newcomers = digits.select(range(len(writers) - NEWCOMERS, len(writers)))
        _compare(procedure, exact, state, after, newcomers, rounds)
    finally:
        if out is None:
            shutil.rmtree(place.parent, ignore_errors=True)
        else:
            print(f"kept in {out}: each node's folder, its log, and the ledger")
    sys.exit(0)


def _watch(federation: "LocalFederation", rounds: int, begun: float, with_kill: bool) -> None:
    """Say what happens on the ledger until so many rounds are final."""
    from fedmeta.node.errors import MemberError

    killed = ""
    for event in federation.follow():
        fields = event.fields
        match event.kind:
            case "phase-began":
                if fields["phase"] == "commit":
                    _say(begun, f"round {fields['round']} is scheduled")
                if fields["phase"] == "deliver":
                    _say(begun, f"round {fields['round']}: updates are committed to, and are brought to the seats")
                    if with_kill and not killed and fields["round"] >= 2:
                        killed = MEMBERS[1]
                        federation.kill(killed)
                        _say(begun, f"round {fields['round']}: {killed}, a super node, is killed; it starts again")
                        federation.start(killed)
            case "updates-included":
                _say(begun, f"round {fields['round']}: in are {', '.join(fields['members'])}")
            case "attestation-revealed":
                _say(begun, f"round {fields['round']}: {fields['candidate']} opens {fields['result'][:12]}")
            case "round-settled":
                reason = f" ({fields['reason']})" if fields["reason"] else ""
                _say(begun, f"round {fields['round']} is {fields['outcome']}{reason}")
                if fields["outcome"] == "final" and len(federation.finals()) >= rounds:
                    return
        if time.monotonic() - begun > PATIENCE:
            raise MemberError(f"{rounds} rounds were not final within {PATIENCE:g} s: with --out the logs are kept")


def _compare(procedure: Any, exact: Any, before: bytes, after: bytes, newcomers: Any, rounds: int) -> None:
    """Say what newcomers gain: adapted from the first model, and from the last one."""
    import fedmeta as fm

    print(f"\n{NEWCOMERS} newcomers, each adapting on a fifth of its own digits:")
    for title, state in (("the first model", before), (f"after {rounds} rounds", after)):
        phi = exact.read_state(state).phi
        report = fm.evaluate(procedure.algorithm, procedure.network, phi, newcomers, procedure.support)
        print(f"  {title:<16} accuracy {report.before.accuracy:.1%} before, {report.after.accuracy:.1%} after")


def _say(begun: float, text: str) -> None:
    print(f"{time.monotonic() - begun:6.1f} s  {text}", flush=True)
