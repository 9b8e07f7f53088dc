"""The end of a round: when it is final, what came of it, who is paid, who missed a duty and who is at fault."""

from collections import Counter
from dataclasses import replace

from fedmeta.govern.rules import faults, rewards
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.round_phases import close, schedule
from fedmeta.govern.state.records import Attestation, Manifest, Recipe, Round, Term
from fedmeta.govern.wire.events import ModelAdvanced, RoundFinal
from fedmeta.govern.wire.transactions import result


def conclude(context: Context, round: Round) -> Round:
    """Note the result that more than 2/3 of the present seats' power revealed, if there is one; return the round."""
    if round.result:
        return round
    seats = context.draft.need(Term, round.term).seats
    revealed: Counter[bytes] = Counter()
    for seat in seats:
        one = context.draft.get(Attestation, round.number, seat.candidate)
        if one is not None and one.revealed:
            revealed[one.result] += seat.power
    total = sum(seat.power for seat in seats)
    for found, power in revealed.items():
        if power * 3 > total * 2:
            round = replace(round, result=found)
            context.draft.put(round)
            context.emit(RoundFinal(round.number, found, power, total))
    return round


def settle(context: Context, round: Round) -> None:
    """End a round after its reveals: pay, move the beacon on, note the duties, punish, schedule the next.

    The outcome, the payments and the duties follow the seats as they are before anyone is punished, so that the order
    of the punishments does not matter.
    """
    manifest = context.draft.need(Manifest, round.number)
    seats = context.draft.need(Term, round.term).seats
    attestations = {one.candidate: one for one in context.draft.where(Attestation, "round", round.number)}
    if not round.result:
        outcome, reason = "failed", "no result was revealed by more than 2/3 of the power"
    elif round.result == result(round.number, manifest.aggregate, manifest.model):
        outcome, reason = "final", ""
        rewards.pay(context, round)
        _advance(context, round, manifest)
    else:
        outcome, reason = "refuted", "the quorum's result is not the manifest's"
    close(context, round, outcome, reason)
    for seat in seats:
        one = attestations.get(seat.candidate)
        if one is not None:
            _record(context, seat.candidate, round, "reveal", missed=not one.revealed)
        elif seat.since <= manifest.height:
            # Who came in for another after the manifest had less time than the rest.
            _record(context, seat.candidate, round, "attest", missed=True)
    if outcome == "final" and any(seat.candidate == manifest.leader for seat in seats):
        _record(context, manifest.leader, round, "lead", missed=False)
    for one in attestations.values():
        # A member that was removed since could not reveal.
        if not one.revealed and context.member(one.candidate).active:
            faults.prove(context, one.candidate, "withheld-reveal", round.number, infraction=one.committed)
    if outcome == "refuted":
        faults.prove(context, manifest.leader, "false-result", round.number, infraction=manifest.height)
    schedule(context, round.number + 1)


def _advance(context: Context, round: Round, manifest: Manifest) -> None:
    """Move the recipe on to the next model, unless a proposal has set it to another one since the round was opened."""
    recipe = context.draft.need(Recipe, round.recipe)
    if recipe.model == round.model:
        context.draft.put(replace(recipe, model=manifest.model))
        context.emit(ModelAdvanced(round.number, recipe.digest, manifest.model))


def _record(context: Context, candidate: str, round: Round, duty: str, missed: bool) -> None:
    faults.record_duty(context, candidate, round.number, duty, missed=missed)
