"""Whom one who checks headers believes: a sequencer's key, or the validators of CometBFT that the last header named."""

import abc
import re
from dataclasses import dataclass, replace
from typing import ClassVar

from fedmeta.govern.errors import Malformed, ProofError, TooFar
from fedmeta.govern.machine.application import seats_of
from fedmeta.govern.machine.genesis import Genesis, Origin, start
from fedmeta.govern.machine.header import Header, SignedHeader, check_link
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.state import State
from fedmeta.govern.wire.commits import (
    MAX_CERTIFICATE,
    Certificate,
    Validator,
    chain_id_of,
    check_commit,
    decode_certificate,
    total_power,
    validator_set,
)
from fedmeta.govern.wire.layout import decode_part, encode_part, part

MAX_DRIFT = 600_000
"""How far, in milliseconds, a header may be ahead of the clock of who checks it."""

_SPELLED = re.compile("([1-9][0-9]{0,15}):([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A late block as told by somebody that one trusts.

    `height` is that of its header here, `hash` that of the block of CometBFT that certifies the header, 32 bytes. As
    text it is both in decimal and in hex, with a colon between.
    """

    height: int
    hash: bytes

    @staticmethod
    def of(signed: SignedHeader) -> "Checkpoint":
        """Return the checkpoint at a header; raises `Malformed` if no validators certify it."""
        return Checkpoint(signed.header.height, decode_certificate(signed.certificate).header.hash)

    @staticmethod
    def read(text: str) -> "Checkpoint":
        """Return the checkpoint that a text spells; raises `Malformed`."""
        found = _SPELLED.fullmatch(text)
        if found is None:
            raise Malformed(f"a checkpoint is a height, a colon and 64 hexadecimal digits: {text[:100]!r}")
        return Checkpoint(int(found[1]), bytes.fromhex(found[2]))

    def __str__(self) -> str:
        return f"{self.height}:{self.hash.hex()}"


class Trust(abc.ABC):
    """What is believed of a ledger so far: a value, from which each header that is accepted makes the next one."""

    genesis: bytes
    """The digest of the genesis."""
    who: ClassVar[str]
    """Who certifies headers, as messages say it."""
    gaps: ClassVar[bool]
    """Whether headers that follow one another may leave heights out."""

    def accept(self, signed: SignedHeader, before: Header | None, now: int | None = None) -> "Trust":
        """Return the trust after the header that comes next, after `before` or, if that is None, after genesis.

        `now`, in milliseconds since 1970, is what trust grows old by; without it, it does not.

        Raises:
            ProofError: the header is not certified by who is trusted, or does not follow.
        """
        after = self.jump(signed, now)
        check_link(signed.header, before, self.genesis, gaps=self.gaps)
        return after

    @abc.abstractmethod
    def jump(self, signed: SignedHeader, now: int | None = None) -> "Trust":
        """Return the trust after a later header, whatever is between; see `accept`."""

    @abc.abstractmethod
    def resting(self, signed: SignedHeader) -> "Trust":
        """Return the trust after a header that was checked before, whatever it is."""

    @abc.abstractmethod
    def check(self, signed: SignedHeader) -> None:
        """Raise `ProofError` for a header that could not be accepted at any time, whatever was accepted before."""

    @abc.abstractmethod
    def save(self) -> bytes:
        """Return what `load` goes on from."""

    @abc.abstractmethod
    def load(self, data: bytes) -> "Trust":
        """Return the trust that was saved, of the same ledger; raises `ProofError` for other bytes."""


@dataclass(frozen=True, slots=True)
class SequencerTrust(Trust):
    """One key orders all blocks: it signs each header, and leaves no height out."""

    genesis: bytes
    sequencer: bytes
    who: ClassVar[str] = "the sequencer"
    gaps: ClassVar[bool] = False

    def jump(self, signed: SignedHeader, now: int | None = None) -> "SequencerTrust":
        """Return this trust, which is the same for all headers."""
        self.check(signed)
        return self

    def resting(self, signed: SignedHeader) -> "SequencerTrust":
        """Return this trust."""
        return self

    def check(self, signed: SignedHeader) -> None:
        """Raise `ProofError` unless the header is of the ledger, and signed by the sequencer."""
        signed.check(self.genesis, self.sequencer)

    def save(self) -> bytes:
        """Return nothing: the genesis says it all."""
        return b""

    def load(self, data: bytes) -> "SequencerTrust":
        """Return this trust."""
        if data:
            raise ProofError("what was saved is no trust in a sequencer")
        return self


@part
@dataclass(frozen=True, slots=True)
class _Saved:
    height: int
    time: int
    validators: tuple[Validator, ...]


@dataclass(frozen=True, slots=True)
class ValidatorsTrust(Trust):
    """Validators agree on blocks by more than 2/3 of their power, and each block names those of the next.

    A header of the ledger is certified by a later block of CometBFT, whose app hash is the header's hash. The block is
    believed if more than 2/3 of its own validators' power signed it, and if these are the ones that the trusted block
    named, or more than 1/3 of the power of those signed it too: one of them at least is then honest. That holds only
    as long as their stake can be slashed, so trust lasts for `period`.
    """

    genesis: bytes
    period: int
    """How long a block is trusted, in milliseconds: less than stake takes to be free."""
    height: int
    """Of the block of CometBFT that was trusted last; 0 for genesis."""
    time: int
    """Its time, in milliseconds since 1970."""
    validators: tuple[Validator, ...]
    """The set that it named for the next block."""
    checkpoint: Checkpoint | None = None
    """A header to begin from, where nothing that is trusted is young enough; None once it was accepted."""
    who: ClassVar[str] = "the validators"
    gaps: ClassVar[bool] = True

    def jump(self, signed: SignedHeader, now: int | None = None) -> "ValidatorsTrust":
        """Return the trust in the block that certifies the header; see `Trust.accept`."""
        certificate, signers = self._certified(signed)
        block = certificate.header
        if block.height <= self.height:
            raise ProofError(
                f"header {signed.header.height} is certified by block {block.height}: it goes back, "
                f"block {self.height} is trusted already"
            )
        if block.time.milliseconds < self.time:
            raise ProofError(
                f"block {block.height} has time {block.time.milliseconds}: it must not be before {self.time}"
            )
        after = replace(self, height=block.height, time=block.time.milliseconds, validators=certificate.following)
        if self.checkpoint is not None and signed.header.height >= self.checkpoint.height:
            _check_point(self.checkpoint, signed.header, block.hash)
            after = replace(after, checkpoint=None)
        else:
            self._check_age(now)
            self._check_set(certificate, signers)
        if now is not None:
            after._check_age(now)
            if after.time > now + MAX_DRIFT:
                raise ProofError(
                    f"block {after.height} has time {after.time}, but it is {now}: correct the clock of this machine"
                )
        return after

    def resting(self, signed: SignedHeader) -> "ValidatorsTrust":
        """Return the trust in a header that was checked before, and in those who committed it."""
        certificate, _ = self._certified(signed)
        block = certificate.header
        return replace(self, height=block.height, time=block.time.milliseconds, validators=certificate.following)

    def check(self, signed: SignedHeader) -> None:
        """Raise `ProofError` unless its certificate is of this header, and its own validators committed it."""
        self._certified(signed)

    def save(self) -> bytes:
        """Return the trusted block's height, time and next validators, encoded."""
        return encode_part(_Saved(self.height, self.time, self.validators))

    def load(self, data: bytes) -> "ValidatorsTrust":
        """Return the trust that was saved; a checkpoint that was reached by then is left out."""
        try:
            saved = decode_part(_Saved, data, limit=MAX_CERTIFICATE, items=1 << 13)
        except Malformed as error:
            raise ProofError(f"what was saved is no trust in validators: {error}") from error
        total_power(saved.validators)
        point = self.checkpoint
        if point is not None and point.height < saved.height:
            point = None
        return replace(self, height=saved.height, time=saved.time, validators=saved.validators, checkpoint=point)

    def _certified(self, signed: SignedHeader) -> tuple[Certificate, frozenset[bytes]]:
        header = signed.header
        if header.genesis != self.genesis:
            raise ProofError(
                f"the header is of the ledger of genesis {header.genesis.hex()}: it must be {self.genesis.hex()}"
            )
        try:
            certificate = decode_certificate(signed.certificate)
        except Malformed as error:
            raise ProofError(f"the certificate of header {header.height} is none: {error}") from error
        block = certificate.header
        if block.app_hash != header.hash:
            raise ProofError(
                f"block {block.height} of CometBFT certifies {block.app_hash.hex()}: "
                f"header {header.height} is {header.hash.hex()}"
            )
        if block.height <= header.height or block.time.milliseconds < header.time:
            raise ProofError(f"header {header.height} is certified by block {block.height}, which must be later")
        return certificate, check_commit(chain_id_of(self.genesis), certificate)

    def _check_age(self, now: int | None) -> None:
        if now is not None and now - self.time >= self.period:
            raise ProofError(
                f"block {self.height} of CometBFT, the last that is trusted, is {(now - self.time) // 1_000} s old: "
                f"after {self.period // 1_000} s whoever signed it may have taken its stake away, and could sign "
                "another history unpunished; ask members whom you trust for a late checkpoint, and begin from that"
            )

    def _check_set(self, certificate: Certificate, signers: frozenset[bytes]) -> None:
        block = certificate.header
        if block.height == self.height + 1 and certificate.validators != self.validators:
            raise ProofError(f"block {block.height} has other validators than those that block {self.height} named")
        total = total_power(self.validators)
        power = sum(one.power for one in self.validators if one.public in signers)
        if power * 3 <= total:
            raise TooFar(
                f"{power} of the power of {total} that is trusted since block {self.height} signed block "
                f"{block.height}: more than one third is needed; headers between them may lead there"
            )


def _check_point(point: Checkpoint, header: Header, found: bytes) -> None:
    if header.height > point.height:
        raise ProofError(f"header {header.height} is beyond the checkpoint: header {point.height} must come first")
    if found != point.hash:
        raise ProofError(
            f"header {header.height} is certified by the block {found.hex()}: the checkpoint is {point.hash.hex()}"
        )


def trust_of(genesis: Genesis, state: State | None = None, checkpoint: Checkpoint | None = None) -> Trust:
    """Return what is believed of a ledger before its first header.

    Args:
        genesis: What it begins with. Where that names no sequencer, the super nodes are the validators.
        state: What the genesis gives, where that is known already: it says who they are.
        checkpoint: A late header to begin from; a sequencer needs none.
    """
    if not genesis.validators:
        return SequencerTrust(genesis.digest, genesis.sequencer)
    state = start(genesis).state if state is None else state
    validators = validator_set({seat.public: seat.power for seat in seats_of(state)})
    period = trust_period(state.need(Parameters).unbonding_seconds)
    return ValidatorsTrust(genesis.digest, period, 0, genesis.time, validators, checkpoint)


def checker_of(origin: Origin) -> Trust:
    """Return what headers of a ledger can be checked by alone, where none is to be accepted."""
    if origin.sequencer:
        return SequencerTrust(origin.digest, origin.sequencer)
    return ValidatorsTrust(origin.digest, 0, 0, origin.time, ())


def trust_period(unbonding_seconds: int) -> int:
    """Return how long validators are trusted, in milliseconds: two thirds of what their stake takes to be free."""
    return unbonding_seconds * 1_000 * 2 // 3
