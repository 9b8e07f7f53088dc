"""The course of a round: how it is scheduled, goes from phase to phase and from leader to leader, and is over."""

from dataclasses import replace

from fedmeta.govern.rules.beacon import advance, draw
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.election import next_leader
from fedmeta.govern.state.records import Attestation, Manifest, Member, Recipe, Round, Term
from fedmeta.govern.wire.events import LeaderChosen, ManifestStruck, PhaseBegan, RoundScheduled, RoundSettled


def schedule(context: Context, number: int) -> None:
    """Make the round `number` the live one: draw its cohort and choose its leader.

    It waits without a deadline while no recipe is active.
    """
    chain, parameters = context.change_chain(round=number), context.parameters
    leader = next_leader(context, chain.term)
    scheduled = Round(
        number=number,
        term=chain.term,
        phase="opening",
        deadline=0,
        leader=leader,
        attempt=0,
        cohort=draw(chain.beacon, number, _eligible(context, number - 1), parameters.cohort_size),
        recipe=b"",
        model=b"",
        opened=0,
        settled=0,
        result=b"",
        leaders=(leader,),
    )
    context.emit(RoundScheduled(number, leader, chain.beacon, scheduled.cohort))
    if can_open(context):
        begin(context, scheduled, "opening", parameters.open_blocks)
    else:
        context.draft.put(scheduled)


def _eligible(context: Context, before: int) -> list[str]:
    """Return who may be drawn after the round `before`: the members of a height at which none of its salts was known.

    So nobody can choose a cohort by coming or going once the beacon can be computed. Who has left since may be drawn.
    """
    previous, manifest = context.draft.get(Round, before), context.draft.get(Manifest, before)
    height = manifest.height if manifest else previous.opened if previous else context.height
    return [
        one.name for one in context.draft.all(Member) if one.admitted <= height and (one.active or one.left > height)
    ]


def can_open(context: Context) -> bool:
    """Return whether there is a recipe that a round may be opened with."""
    return any(recipe.active for recipe in context.draft.all(Recipe))


def begin(context: Context, round: Round, phase: str, blocks: int) -> Round:
    """Let a round go on to a phase of so many blocks, and return it."""
    changed = replace(round, phase=phase, deadline=context.height + blocks)
    context.draft.put(changed)
    context.emit(PhaseBegan(changed.number, phase, changed.deadline))
    return changed


def hand_on(context: Context, round: Round, deadline: int) -> Round:
    """Give a round to the next leader of its term, with a new deadline, and return it."""
    leader = next_leader(context, round.term)
    # Evidence names a leader by its attempt, which counts from the round's opening.
    opened = round.phase != "opening"
    changed = replace(
        round,
        leader=leader,
        attempt=round.attempt + 1 if opened else 0,
        leaders=(*round.leaders, leader) if opened else (leader,),
        deadline=deadline,
    )
    context.draft.put(changed)
    context.emit(LeaderChosen(round.number, round.term, leader, changed.attempt, deadline))
    return changed


def retry(context: Context, round: Round, reason: str) -> None:
    """Let the next leader post a manifest; the round fails when as many leaders have tried as there are seats."""
    if round.attempt + 1 >= len(context.draft.need(Term, round.term).seats):
        close(context, round, "failed", reason)
        schedule(context, round.number + 1)
        return
    blocks = context.parameters.manifest_blocks
    changed = hand_on(context, round, context.height + blocks)
    if round.phase != "manifest":
        begin(context, changed, "manifest", blocks)


def strike(context: Context, number: int, reason: str, offender: str = "") -> None:
    """Take a manifest that is not final out of its round, and let the next leader post another.

    Nothing is done if the round has no manifest, has a result already, or, where `offender` is named, the manifest is
    another leader's. Those who attested it are free of their commitments.
    """
    draft = context.draft
    round, manifest = draft.need(Round, number), draft.get(Manifest, number)
    if manifest is None or round.phase not in ("commit", "reveal") or round.result:
        return
    if offender and manifest.leader != offender:
        return
    draft.delete(Manifest, number)
    for one in draft.where(Attestation, "round", number):
        draft.delete(Attestation, number, one.candidate)
    context.emit(ManifestStruck(number, manifest.leader, reason))
    retry(context, round, reason)


def close(context: Context, round: Round, outcome: str, reason: str) -> None:
    """End a round, and move the beacon on by the salts that were revealed in it."""
    revealed = [one for one in context.draft.where(Attestation, "round", round.number) if one.revealed]
    beacon = advance(context.chain.beacon, round.number, [(one.candidate, one.salt) for one in revealed])
    context.change_chain(beacon=beacon)
    context.draft.put(replace(round, phase=outcome, settled=context.height))
    context.emit(RoundSettled(round.number, outcome, reason, beacon))
