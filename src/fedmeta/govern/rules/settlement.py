"""The end of a round: whether it is final, who is paid, who missed a duty and who opened another result."""

from collections import Counter
from collections.abc import Collection

from fedmeta.govern.rules import faults, rewards
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.round_phases import close, is_quorum, power
from fedmeta.govern.state.records import Attestation, Recipe, Round
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.round_events import ModelAdvanced, RoundFinal


def conclude(context: Context, round: Round) -> bool:
    """Return whether one result was opened by more than 2/3 of the power, and if so settle the round.

    Honest seats have more than 2/3 of the power and open one result, so that whatever is final is theirs. Who opened
    another one is at fault; who opened none has missed a duty, and is not paid.
    """
    attestations = {one.candidate: one for one in context.draft.where(Attestation, "round", round.number)}
    opened: Counter[bytes] = Counter()
    for seat in round.seats:
        one = attestations.get(seat.candidate)
        if one is not None and one.revealed:
            opened[one.result] += seat.power
    final = next((result for result, held in opened.items() if is_quorum(round, held)), None)
    if final is None:
        return False
    round = replace(round, result=final)
    context.emit(RoundFinal(round.number, round.attempt, final, opened[final], power(round)))
    context.change_chain(stretch=0)
    _advance(context, round)
    close(context, round, "final", "", rewards.pay(context, round))
    revealed = {name: one for name, one in attestations.items() if one.revealed}
    miss(context, round, revealed.keys(), settled=True)
    for name, one in revealed.items():
        if one.result != final:
            faults.prove(context, name, "false-result", round.term, one.committed, round.number)
    return True


def _advance(context: Context, round: Round) -> None:
    """Move the recipe on to the next model, unless a proposal has set it to another one since the round began."""
    recipe = context.draft.need(Recipe, round.recipe)
    if recipe.model == round.model:
        context.draft.put(replace(recipe, model=round.result, exposed=False))
        context.emit(ModelAdvanced(round.number, recipe.digest, round.result))


def miss(context: Context, round: Round, present: Collection[str], settled: bool = False) -> None:
    """Note that all seats but those that were `present` missed their duty; where the round is settled, who did it."""
    for seat in round.seats:
        if seat.candidate not in present:
            faults.record_duty(context, seat.candidate, round.number, missed=True)
        elif settled:
            faults.record_duty(context, seat.candidate, round.number, missed=False)
