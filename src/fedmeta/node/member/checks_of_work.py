"""What is checked of the procedures that are known here: approvals, the policy, the data, and the memory they need."""

from collections.abc import Iterator, Mapping
from datetime import date

from fedmeta.errors import FedmetaError
from fedmeta.node.member import policy as policies
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.member.checks import Check, fails, ok, warning
from fedmeta.node.member.config import Config
from fedmeta.node.member.data import split
from fedmeta.node.member.describing import Described, describe, read_procedure
from fedmeta.node.member.folder import Folder
from fedmeta.node.member.settings import said_size
from fedmeta.runs.procedure import Procedure

COPIES = 24
"""How many float32 copies of phi a client's update takes at most, by rule of thumb; a seat holds a cohort besides."""


def check_work(config: Config) -> Iterator[Check]:
    """Check policy and approvals, and each approved procedure with the data and the memory here."""
    folder = Folder(config.folder)
    try:
        policy = policies.read(config.folder)
    except FedmetaError as error:
        yield fails("policy", str(error), "correct the file")
        return
    yield ok(
        "policy", f"models up to {policy.largest_model:,} parameters, {policy.smallest_examples} examples at least"
    )
    today = date.today()
    try:
        known = Approvals(folder.approvals).latest()
    except FedmetaError as error:
        yield fails(
            "approvals", str(error), "somebody has changed the file: find out who, and approve again in a new one"
        )
        return
    holding = [one for one in known.values() if one.holds(today)]
    if not holding:
        yield warning(
            "approvals", "no procedure is approved", "fedmeta node approve FILE --note TEXT: without, no duty"
        )
    for one in known.values():
        name = f"approval {one.digest.hex()[:12]}…"
        reason = one.why_not(today)
        if reason is None:
            yield ok(name, f"until {one.until}" if one.until else "without an end")
            yield from _procedure(config, policy, folder, one.digest)
        else:
            yield warning(name, reason, "approve it again, if it shall go on")


def _procedure(config: Config, policy: policies.Policy, folder: Folder, digest: bytes) -> Iterator[Check]:
    name = f"{digest.hex()[:12]}…"
    try:
        procedure = read_procedure(folder.procedure(digest))
        found = describe(procedure)
    except FedmetaError as error:
        yield warning(f"procedure {name}", str(error), "it is fetched when the node starts; or approve it from a file")
        return
    row, count = check_data(config, procedure, name)
    yield row
    reasons = policy.reasons(found, count)
    if reasons:
        yield fails(f"policy for {name}", "; ".join(reasons), "revoke the approval, or change policy.toml")
    else:
        yield ok(f"policy for {name}", "nothing is beyond its bounds")
    yield judge_memory(found, config.listens, available(), name)


def check_data(config: Config, procedure: Procedure, name: str) -> tuple[Check, int | None]:
    """Return the row for this member's data, read as the trainer reads them, and the number of examples to train on."""
    title = f"data for {name}"
    try:
        x, _, held = split(config, procedure, config.listens)
    except FedmetaError as error:
        return fails(title, str(error), "correct the files, or [data] in node.toml"), None
    kept = f", {held.sum():,} of them held out to score by" if held.any() else ""
    return ok(title, f"{len(x):,} examples{kept}"), len(x) - int(held.sum())


def available() -> int | None:
    """Return the bytes of memory that are free for a process, where the system tells."""
    try:
        with open("/proc/meminfo") as file:
            found: Mapping[str, str] = dict(line.split(":", 1) for line in file)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


def judge_memory(found: Described, seat: bool, free: int | None, name: str) -> Check:
    """Return the row for the memory that a procedure needs, by rule of thumb."""
    need = 4 * found.parameters * COPIES + (12 * found.parameters * found.cohort if seat else 0)
    title = f"memory for {name}"
    said = f"about {said_size(need)} needed"
    if free is None:
        return ok(title, f"{said}; what is free, the system does not tell")
    said += f", {said_size(free)} free"
    return ok(title, said) if need <= free else warning(title, said, "free some, or take a smaller duty")
