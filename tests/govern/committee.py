"""Validators that certify headers as CometBFT does: sets of keys, the blocks they vote on, and their votes."""

from dataclasses import replace
from hashlib import sha256

from fedmeta.govern.wire.commits import (
    COMMIT,
    NIL,
    NO_VOTE,
    BlockId,
    Certificate,
    CometHeader,
    Commit,
    CommitSignature,
    Timestamp,
    Validator,
    validators_hash,
    vote_sign_bytes,
)
from tests.govern.playing import TIME, key

CHAIN = "fedmeta-0123"
NO_BLOCK = BlockId(b"", 0, b"")


def hashed(text):
    return sha256(text.encode()).digest()


def committee(powers):
    """Return the set of a map of names to powers, in CometBFT's order: by power, then by address."""
    made = [Validator(key(name).public, power) for name, power in powers.items()]
    return tuple(sorted(made, key=lambda one: (-one.power, one.address)))


def comet_header(validators, following=(), height=5, time=TIME, app_hash=bytes(32), chain_id=CHAIN):
    return CometHeader(
        block_version=11,
        app_version=1,
        chain_id=chain_id,
        height=height,
        time=Timestamp(time // 1_000, time % 1_000 * 1_000_000 + 123_456),
        last_block_id=BlockId(hashed("last"), 1, hashed("last parts")),
        last_commit_hash=hashed("last commit"),
        data_hash=hashed("data"),
        validators_hash=validators_hash(validators),
        next_validators_hash=validators_hash(following or validators),
        consensus_hash=hashed("consensus"),
        app_hash=app_hash,
        last_results_hash=hashed("results"),
        evidence_hash=hashed("evidence"),
        proposer_address=validators[0].address,
    )


def certify(header, validators, following=(), signers=None, nil=(), round=0):
    """Return a header's certificate, signed by those of these names, or by all of the names that `key` has given."""
    block_id = BlockId(header.hash, 1, hashed("parts"))
    names = {key(name).public: name for name in signers or ()}
    against = {key(name).public: name for name in nil}
    votes = [
        _vote(header, validator, names, block_id, COMMIT, round)
        or _vote(header, validator, against, None, NIL, round)
        or NO_VOTE
        for validator in validators
    ]
    return Certificate(header, Commit(header.height, round, block_id, tuple(votes)), validators, following)


def _vote(header, validator, names, block_id, flag, round):
    name = names.get(validator.public)
    if name is None:
        return None
    time = replace(header.time, seconds=header.time.seconds + 1)
    message = vote_sign_bytes(header.chain_id, header.height, round, block_id, time)
    return CommitSignature(flag, validator.address, time, key(name).sign(message))
