"""The sabotages of the ledger that `make mutants` tries, and which tests must notice each.

Not among them: what no test can see from outside, such as a database that does not wait for the disk.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A sabotage: `old`, which stands once in the file, becomes `new`."""

    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]


def mutant(file, old, new, breaks, *tests):
    return Mutant(file, old, new, breaks, tests)


def never(file, condition, breaks, *tests):
    """Return the mutant in which a condition is never met."""
    return Mutant(file, f"if {condition}:", "if False:", breaks, tests)


FORGERY, SLASHES = "attacks/test_forgery.py", "attacks/test_slashes.py"
ATTACKED_STAKE, ATTACKED_ROUNDS = "attacks/test_stake.py", "attacks/test_rounds.py"
ELECTION, ROUNDS, SETTLEMENT = "rules/test_election.py", "rules/test_rounds.py", "rules/test_settlement.py"
REWARDS, STAKE, SLASHING = "rules/test_rewards.py", "rules/test_stake.py", "rules/test_slashing.py"
FAULTS, CHALLENGES, PROPOSALS = "rules/test_faults.py", "rules/test_challenges.py", "rules/test_proposals.py"
CANDIDATES, MEMBERS, BEACON = "rules/test_candidates.py", "rules/test_members.py", "rules/test_beacon.py"

MUTANTS = (
    # Transactions
    never("execute.py", "signed.sequence < expected", "a transaction can be replayed", FORGERY),
    never(
        "execute.py", "signed.sequence > expected", "a transaction can be done before those that it follows", FORGERY
    ),
    never("execute.py", "signed.chain_id != chain_id", "another chain's transactions are taken", FORGERY),
    mutant(
        "execute.py", "if not verify(public", "if False and not verify(public", "anyone can sign for anyone", FORGERY
    ),
    mutant("execute.py", "if public != right:", "if not right:", "a signature by an old key counts for ever", FORGERY),
    mutant(
        "execute.py",
        "        context.draft.undo(mark)\n",
        "",
        "a refused transaction leaves behind what it had written",
        FORGERY,
        "test_application.py",
    ),
    never("execute.py", "time < chain.time", "block time can go back", "test_application.py"),
    never("execute.py", "len(raw) > largest", "a transaction may be of any size", FORGERY),
    mutant(
        "transactions.py",
        '\\x85" + raw[1:-66]',
        '\\x84" + codec.encode(codec.decode(raw)[1:5])[1:]',
        "the chain id is not signed",
        FORGERY,
    ),
    mutant(
        "transactions.py",
        'return b"fedmeta transaction\\0\\x85" + raw[1:-66]',
        'return b"\\x85" + raw[1:-66]',
        "a signature made for something else signs a transaction",
        FORGERY,
    ),
    mutant(
        "transactions.py",
        "codec.encode([round, member, digest, examples])",
        "codec.encode([member, digest, examples])",
        "a receipt counts in every round",
        ATTACKED_ROUNDS,
    ),
    mutant(
        "transactions.py",
        "codec.encode([round, candidate, result, list(scores), salt])",
        "codec.encode([round, result, list(scores), salt])",
        "a commitment can be copied and opened by the copier",
        ATTACKED_ROUNDS,
    ),
    mutant(
        "transactions.py",
        'tagged("commitment", chain_id.encode(), ',
        'tagged("commitment", ',
        "a commitment counts on every chain",
        FORGERY,
        "test_reference.py",
    ),
    mutant(
        "transactions.py",
        'tagged("possession", chain_id.encode(), member.encode(), public)',
        'tagged("possession", chain_id.encode(), public)',
        "a proof of possession serves another member",
        MEMBERS,
        "test_reference.py",
    ),
    never("codec.py", "_dump(value) != data", "a value has several encodings", FORGERY, "test_codec.py"),
    mutant(
        "schema.py",
        "return lambda value: type(value) is int and low",
        "return lambda value: isinstance(value, int) and low",
        "true is an amount of one unit",
        FORGERY,
    ),
    mutant(
        "schema.py", "if values.keys() != wanted:", "if wanted - values.keys():", "unknown fields are taken", FORGERY
    ),
    never("signatures.py", "y in _SMALL_ORDER_Y", "keys are taken that anyone can sign by", FORGERY),
    # Members
    never("rules/members.py", "reason", "a member leaves with stake at work", SLASHES, MEMBERS),
    never("rules/members.py", "len(kept) >= MAX_KEYS", "keys pile up without end", SLASHES, MEMBERS),
    mutant(
        "rules/members.py",
        "if end > oldest]",
        "if end > context.height]",
        "the key that signed a deed is forgotten while evidence lives",
        MEMBERS,
        SLASHES,
    ),
    mutant(
        "rules/members.py",
        "if period.since <= last and end > first",
        "if end > last",
        "evidence against an old key is worth nothing",
        FAULTS,
    ),
    # Stake
    mutant(
        "rules/stake.py",
        "shares = -(-amount * candidate.shares // candidate.tokens)",
        "shares = amount * candidate.shares // candidate.tokens",
        "who takes stake back is rounded up",
        STAKE,
    ),
    mutant(
        "rules/stake.py",
        "shares = amount * candidate.shares // candidate.tokens if candidate.shares else amount * SHARES_PER_UNIT",
        "shares = amount * SHARES_PER_UNIT",
        "who stakes on a slashed pool pays for the slash of others",
        STAKE,
    ),
    mutant(
        "rules/stake.py",
        "return shares * candidate.tokens // candidate.shares if candidate.shares else 0",
        "return -(-shares * candidate.tokens // candidate.shares) if candidate.shares else 0",
        "the worth of shares is rounded up",
        STAKE,
    ),
    mutant(
        "rules/stake.py",
        "amount, rest = divmod(_due(delegation, candidate), INDEX_SCALE)",
        "amount, rest = -(-_due(delegation, candidate) // INDEX_SCALE), 0",
        "rewards are rounded up",
        REWARDS,
        STAKE,
    ),
    mutant(
        "rules/stake.py",
        "rise = -(-amount * INDEX_SCALE // candidate.shares)",
        "rise = amount * INDEX_SCALE // candidate.shares",
        "who is due a whole number of units gets one less",
        REWARDS,
        STAKE,
    ),
    mutant(
        "rules/stake.py",
        "index=candidate.reward_index, rest=rest)",
        "index=candidate.reward_index, rest=0)",
        "each settlement loses a fraction of a unit",
        ATTACKED_STAKE,
    ),
    mutant(
        "rules/stake.py",
        "settled = replace(delegation, index=candidate.reward_index, rest=rest)",
        "settled = replace(delegation, rest=rest)",
        "rewards can be claimed again and again",
        ATTACKED_STAKE,
        STAKE,
    ),
    mutant(
        "rules/stake.py",
        "free=member.free + member.owed, owed=0",
        "free=member.free + member.owed",
        "a claim pays and stays",
        ATTACKED_STAKE,
    ),
    never("rules/stake.py", "entry.destination == body.source", "stake hops on", SLASHES, STAKE),
    mutant(
        "rules/stake.py",
        "max(context.height + context.parameters.unbonding_period, *closes, 0)",
        "max(context.height + context.parameters.evidence_age // 2, *closes, 0)",
        "stake is paid before its evidence has expired",
        SLASHES,
        STAKE,
    ),
    mutant(
        "rules/stake.py",
        '    if candidate.tombstoned:\n        raise Refused("tombstoned", f"{candidate_name} is barred for good")\n',
        "",
        "the barred take stake",
        STAKE,
        SLASHES,
    ),
    mutant(
        "rules/stake.py",
        "        context.treasury(candidate.tokens + candidate.outstanding)\n",
        "",
        "what rounding leaves in an empty pool is lost",
        STAKE,
    ),
    never("rules/stake.py", "body.candidate == name", "one delegates to oneself", ATTACKED_STAKE),
    # Slashes
    mutant(
        "rules/slashing.py",
        'for entry in context.draft.where(Unbonding, "candidate", name):',
        "for entry in ():",
        "stake on its way out is not slashed",
        SLASHES,
    ),
    mutant(
        "rules/slashing.py",
        'for moved in context.draft.where(Redelegation, "source", name):',
        "for moved in ():",
        "stake that moved on is not slashed",
        SLASHES,
    ),
    mutant(
        "rules/slashing.py",
        "if entry.candidate == moved.destination and entry.created >= moved.created and amount:",
        "if False:",
        "stake that moved and was then taken back is not slashed",
        SLASHES,
    ),
    mutant(
        "rules/slashing.py",
        "if entry.created > snapshot and amount:",
        "if amount:",
        "stake that was taken back before the election is slashed",
        SLASHES,
    ),
    mutant(
        "rules/slashing.py",
        "if entry.created > snapshot and amount:",
        "if entry.created > snapshot + 1 and amount:",
        "stake that was taken back right after the election escapes",
        SLASHES,
    ),
    mutant(
        "rules/slashing.py",
        "if moved.created > snapshot:",
        "if moved.created > snapshot + 1:",
        "stake that moved right after the election escapes",
        SLASHES,
    ),
    mutant(
        "rules/slashing.py",
        "replace(moved, shares=moved.shares - wanted, amount=moved.amount - due)",
        "moved",
        "moved stake answers for more than moved",
        SLASHING,
    ),
    # Candidates
    never("rules/candidates.py", "commission > before.commission + rise", "a commission jumps", ATTACKED_STAKE),
    never("rules/candidates.py", "commission > cap", "a commission has no cap", ATTACKED_STAKE),
    mutant(
        "rules/candidates.py",
        "min(time - candidate.commission_time, YEAR)",
        "(time - candidate.commission_time)",
        "years without a rise are saved up",
        ATTACKED_STAKE,
    ),
    mutant(
        "rules/candidates.py",
        "replace(_with_commission(context, before, body.commission), active=True, registered=context.height)",
        "replace(before, commission=body.commission, active=True, registered=context.height)",
        "retiring resets the commission",
        ATTACKED_STAKE,
    ),
    mutant(
        "rules/candidates.py",
        "active=True, registered=context.height)\n    context",
        "active=True)\n    context",
        "who comes back keeps its rank among equals",
        CANDIDATES,
    ),
    never("rules/candidates.py", "context.height <= candidate.jailed_until", "jail is left at once", CANDIDATES),
    never("rules/candidates.py", "own < needed", "one comes out of jail without stake", CANDIDATES),
    mutant(
        "rules/candidates.py",
        "    context.emit(CandidateJailed(name, until))\n    election.replace_seat(context, name)\n",
        "    context.emit(CandidateJailed(name, until))\n",
        "the jailed keep their seats",
        CANDIDATES,
        FAULTS,
    ),
    # Elections
    never("rules/election.py", "held[organisation] > limit", "the cap of an organisation's power is gone", ELECTION),
    mutant(
        "rules/election.py",
        "return max(1, (parameters.super_nodes - 1) // 3)",
        "return parameters.super_nodes",
        "an organisation may hold all seats",
        ELECTION,
    ),
    mutant(
        "rules/election.py",
        "min(one.tokens, parameters.self_stake_factor * own)",
        "one.tokens",
        "weight needs no stake of one's own",
        ELECTION,
    ),
    mutant(
        "rules/election.py",
        "ranked.append((-weight, one.registered, one.member, one.organisation))",
        "ranked.append((-weight, -one.registered, one.member, one.organisation))",
        "the later registration wins a tie",
        ELECTION,
    ),
    mutant(
        "rules/election.py",
        "if not one.active or one.jailed or one.tombstoned or",
        "if not one.active or one.tombstoned or",
        "the jailed are elected",
        ELECTION,
    ),
    mutant(
        "rules/election.py",
        "else parameters.max_seat_changes",
        "else size",
        "one election may change all seats",
        ELECTION,
    ),
    mutant(
        "rules/election.py",
        "priorities[first] -= sum(seat.power for seat in term.seats)",
        "priorities[first] -= 0",
        "one super node leads always",
        ELECTION,
    ),
    mutant(
        "execute.py",
        "] = (\n    rounds.end_block,\n",
        "] = (\n    election.end_block,\n    rounds.end_block,\n",
        "the snapshot of an election comes before the slashes of its block",
        SETTLEMENT,
    ),
    mutant(
        "execute.py",
        "] = (\n    rounds.end_block,\n    challenges.end_block,\n    stake.end_block,\n",
        "] = (\n    stake.end_block,\n    rounds.end_block,\n    challenges.end_block,\n",
        "stake on its way out is paid before the slashes of its last block",
        CHALLENGES,
    ),
    # Rounds
    mutant("rules/settlement.py", "power * 3 > total * 2", "power * 2 > total", "half the power is a quorum", ROUNDS),
    mutant(
        "rules/settlement.py",
        "power * 3 > total * 2",
        "power * 3 >= total * 2",
        "two thirds and no more are a quorum",
        ROUNDS,
    ),
    mutant(
        "rules/rounds.py",
        "(len(seats) - 1) // 3 + 1",
        "(len(seats) - 1) // 3",
        "f receipts are enough, all of them faulty",
        ATTACKED_ROUNDS,
    ),
    mutant(
        "rules/rounds.py",
        "if any(one >= other for one, other in pairwise(names)):",
        "if any(one > other for one, other in pairwise(names)):",
        "one receipt counts twice",
        ATTACKED_ROUNDS,
    ),
    never("rules/rounds.py", "name not in round.cohort", "anyone commits an update", ATTACKED_ROUNDS),
    never("rules/rounds.py", "name != round.leader", "anyone leads", ROUNDS),
    never("rules/rounds.py", "opened != attestation.commitment", "a reveal need not be what was committed", ROUNDS),
    never("rules/rounds.py", "body.model != recipe.model", "a round starts from any model", ROUNDS),
    mutant(
        "rules/settlement.py",
        "if not one.revealed and context.member(one.candidate).active:",
        "if False:",
        "to withhold a reveal costs nothing",
        ATTACKED_ROUNDS,
    ),
    never("rules/settlement.py", 'outcome == "refuted"', "a refuted leader loses nothing", SETTLEMENT),
    mutant(
        "rules/course.py",
        'or round.phase not in ("commit", "reveal") or round.result:',
        ":",
        "a manifest is struck after its round is final",
        ROUNDS,
    ),
    mutant(
        "rules/beacon.py",
        "codec.encode([round, sorted(salts)])",
        "codec.encode([round])",
        "the beacon does not depend on the salts",
        BEACON,
    ),
    mutant(
        "rules/course.py",
        "    height = manifest.height if manifest else previous.opened if previous else context.height\n",
        "    height = context.height\n",
        "a cohort is chosen by leaving once the beacon is known",
        ATTACKED_ROUNDS,
    ),
    mutant(
        "rules/beacon.py",
        "sorted(salts)",
        "sorted(salts)[:1]",
        "the first salt makes the beacon alone",
        BEACON,
    ),
    mutant(
        "rules/pruning.py",
        "oldest = context.height - context.parameters.unbonding_period",
        "oldest = context.height - context.parameters.challenge_blocks",
        "rounds are forgotten while evidence about them lives",
        SETTLEMENT,
    ),
    # Rewards
    mutant(
        "rules/rewards.py",
        "lower_median((one.scores[at], seat.power) for",
        "lower_median((one.scores[at], 1) for",
        "the median of the scores is not weighted",
        REWARDS,
    ),
    mutant(
        "rules/rewards.py",
        "    ordered = sorted(values)\n",
        "    ordered = sorted(values)\n"
        "    return sum(value * weight for value, weight in ordered) // max(1, sum(weight for _, weight in ordered))\n",
        "scores are merged by their mean",
        REWARDS,
    ),
    mutant("rules/rewards.py", "below * 2 >= total", "below * 2 > total", "the median is the upper one", REWARDS),
    mutant(
        "rules/rewards.py",
        "context.treasury(-paid)",
        "context.treasury(-contributors - super_nodes)",
        "what rounding leaves is lost",
        REWARDS,
    ),
    mutant(
        "rules/rewards.py",
        "amount = pool * score // total",
        "amount = -(-pool * score // total)",
        "contributors are paid rounded up",
        REWARDS,
    ),
    mutant(
        "rules/rewards.py",
        "commission = amount * rate // MILLION",
        "commission = -(-amount * rate // MILLION)",
        "commissions are rounded up",
        REWARDS,
    ),
    mutant(
        "rules/rewards.py",
        "rate = min(candidate.commission, context.parameters.commission_cap)",
        "rate = candidate.commission",
        "a cap on commissions does not hold for those above it",
        ATTACKED_STAKE,
    ),
    mutant(
        "rules/rewards.py",
        "pool = min(parameters.round_pool, context.chain.treasury)",
        "pool = parameters.round_pool",
        "an empty treasury goes on paying",
        REWARDS,
    ),
    mutant(
        "rules/rewards.py",
        "and one.revealed and one.result == round.result]",
        "and one.revealed]",
        "who revealed another result is paid, and its scores count",
        REWARDS,
    ),
    # Faults, evidence, challenges
    never("rules/evidence.py", "age > oldest", "evidence never expires", SLASHES),
    never("rules/challenges.py", "age > parameters.evidence_age", "challenges never expire", SLASHES),
    never(
        "rules/faults.py",
        "any((one.kind, one.round) == (kind, round) for one in earlier)",
        "one deed is punished again and again",
        SLASHES,
    ),
    mutant(
        "rules/faults.py",
        "max((one.fraction for one in earlier if one.term == term and not one.annulled), default=0)",
        "0",
        "faults add up",
        SLASHES,
    ),
    mutant(
        "rules/faults.py",
        "if not reporter or context.member(reporter).organisation == context.candidate(offender).organisation:",
        "if not reporter:",
        "one is paid for reporting oneself",
        SLASHES,
    ),
    mutant(
        "rules/faults.py",
        "return min(amount * context.parameters.reporter_share // MILLION, context.parameters.reporter_cap)",
        "return amount * context.parameters.reporter_share // MILLION",
        "a reporter's reward has no cap",
        SLASHES,
    ),
    never("rules/faults.py", "KINDS[kind].final", "who signed two manifests comes back", SLASHES),
    mutant("rules/faults.py", "misses >= parameters", "misses > parameters", "one miss more is forgiven", FAULTS),
    mutant(
        "rules/evidence.py",
        " or found.leaders[first.body.attempt] != offender:",
        ":",
        "one is at fault for manifests that one did not lead",
        FAULTS,
    ),
    mutant(
        "rules/evidence.py",
        "if not any(verify(key, one.message, one.signature) for key in keys):",
        "if False:",
        "evidence can be forged",
        SLASHES,
    ),
    never("rules/evidence.py", "body.member in manifest.members", "an update that is in was left out", SLASHES),
    mutant(
        "rules/challenges.py",
        "sides = (context.candidate(body.accused).organisation, challenger)",
        "sides = (challenger,)",
        "the accused's organisation judges it",
        ATTACKED_ROUNDS,
    ),
    mutant(
        "rules/challenges.py",
        "sides = (context.candidate(body.accused).organisation, challenger)",
        "sides = (context.candidate(body.accused).organisation,)",
        "the challenger's organisation judges",
        ATTACKED_ROUNDS,
    ),
    never(
        "rules/challenges.py",
        "context.member(other.challenger).organisation == organisation",
        "one organisation keeps all panels busy",
        ATTACKED_ROUNDS,
    ),
    mutant(
        "rules/challenges.py",
        "behind * 3 > total * 2",
        "behind * 3 >= total * 2",
        "two thirds of a panel decide",
        CHALLENGES,
    ),
    never("rules/challenges.py", "deposit_to", "a challenger that was right loses its deposit", CHALLENGES),
    # Proposals and parameters
    mutant(
        "rules/proposals.py",
        "        context.free(proposal.proposer, proposal.deposit)\n",
        "        context.treasury(proposal.deposit)\n",
        "a deposit is not given back",
        PROPOSALS,
    ),
    never(
        "rules/proposals.py", "tally.against * MILLION > parameters.veto * tally.votes", "vetoes are ignored", PROPOSALS
    ),
    never(
        "rules/proposals.py",
        "tally.votes * MILLION < parameters.quorum * tally.bonded",
        "there is no quorum",
        PROPOSALS,
    ),
    mutant(
        "rules/proposals.py",
        "tally.yes * MILLION <= parameters.threshold * decided",
        "tally.yes * MILLION < parameters.threshold * decided",
        "half of the votes pass a proposal",
        PROPOSALS,
    ),
    mutant(
        "rules/proposals.py",
        "sums[choice] += pool.tokens - taken.get(name, 0)",
        "sums[choice] += pool.tokens",
        "a delegator does not override its delegate, but votes besides",
        PROPOSALS,
    ),
    mutant(
        "rules/proposals.py",
        "executes = context.height + parameters.execution_delay if",
        "executes = context.height if",
        "nobody can leave before a proposal takes effect",
        PROPOSALS,
    ),
    never("rules/proposals.py", "count >= most", "proposals are without number", ATTACKED_ROUNDS),
    mutant(
        "rules/proposals.py",
        "own = sum(context.member(one).organisation == organisation for one in proposers)",
        "own = 0",
        "one organisation takes all places for proposals",
        ATTACKED_ROUNDS,
    ),
    never("parameters.py", "p.unbonding_period < answering", "stake may leave before evidence expires", SLASHES),
    never("parameters.py", "p.evidence_age < longest", "evidence may expire within a round", "test_genesis.py"),
    never("parameters.py", "shares != MILLION", "shares of the pool need not add up", PROPOSALS, "test_genesis.py"),
    mutant(
        "parameters.py",
        '"ppm", 1, 333_332, 330_000',
        '"ppm", 1, 500_000, 330_000',
        "the cap may be half",
        "test_genesis.py",
    ),
    # Proofs
    mutant("merkle.py", 'sha256(b"\\x00" + data)', "sha256(data)", "an inner node passes for a leaf", "test_merkle.py"),
    mutant(
        "merkle.py",
        'return sha256(b"\\x01" + left + right).digest()',
        "return sha256(left + right).digest()",
        "a leaf passes for an inner node",
        "test_merkle.py",
    ),
    mutant(
        "merkle.py",
        "        if at & 1:\n            node = node_hash(sibling, node)\n",
        "        if not at & 1:\n            node = node_hash(sibling, node)\n",
        "paths turn the wrong way",
        "test_merkle.py",
    ),
    mutant(
        "merkle.py",
        "return not last and node == root",
        "return node == root",
        "a path may be too short",
        "test_merkle.py",
    ),
    never("header.py", "header.previous != previous", "headers need not follow one another", "test_header.py"),
    mutant(
        "header.py",
        "if not verify(sequencer, _message(self.header), self.signature):",
        "if False:",
        "anyone signs headers",
        "test_header.py",
    ),
    never("header.py", "(found := merkle.root(leaves)) != due", "a header need not be of its block", "test_header.py"),
    never("snapshot.py", "state.root != manifest.app_hash", "any state is restored", "test_snapshot.py"),
    never(
        "invariants.py", "sum(parts.values()) != chain.supply", "units are made and lost unseen", "test_invariants.py"
    ),
)
