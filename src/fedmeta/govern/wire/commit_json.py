"""A certificate of what a CometBFT node answers over its RPC: numbers as text, hashes in hex, times in RFC 3339."""

import base64
import binascii
import re
from datetime import date
from typing import Any, TypeVar

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire.commits import (
    ABSENT,
    NO_VOTE,
    BlockId,
    Certificate,
    CometHeader,
    Commit,
    CommitSignature,
    Timestamp,
    Validator,
)

T = TypeVar("T")

_KEY = "tendermint/PubKeyEd25519"
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_NUMBER = re.compile(r"0|[1-9]\d{0,18}", re.ASCII)
_EPOCH = date(1970, 1, 1).toordinal()


def certificate_of(commit: Any, validators: Any, next_validators: Any) -> Certificate:
    """Return the certificate of a block from three answers: `/commit`, and `/validators` of its height and the next.

    Each is the `result` of an answer, decoded. A set must be whole: where it has several pages, their `validators` as
    one list. Nothing is checked but the form.

    Raises:
        Malformed: an answer is of another form.
    """
    signed = _part(commit, "signed_header", dict)
    one, following = _validators(validators), _validators(next_validators)
    return Certificate(
        _header(_part(signed, "header", dict)),
        _commit(_part(signed, "commit", dict)),
        one,
        () if following == one else following,
    )


def timestamp_of(text: str) -> Timestamp:
    """Return the time of a text as RFC 3339 in UTC, with up to nine digits of a second; raises `Malformed`."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise Malformed(f"{text[:40]!r} is no time such as 2026-01-31T09:00:00.123456789Z")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError as error:
        raise Malformed(f"{text!r} is no time: {error}") from error
    if hour > 23 or minute > 59 or second > 59:
        raise Malformed(f"{text!r} is no time: it must be at most 23:59:59")
    return Timestamp(((days * 24 + hour) * 60 + minute) * 60 + second, int((found[7] or "").ljust(9, "0")))


def _header(value: dict[str, Any]) -> CometHeader:
    version = _part(value, "version", dict)
    last = value.get("last_block_id")
    return CometHeader(
        block_version=_number(version, "block"),
        app_version=_number(version, "app") if "app" in version else 0,
        chain_id=_part(value, "chain_id", str),
        height=_number(value, "height"),
        time=timestamp_of(_part(value, "time", str)),
        last_block_id=BlockId(b"", 0, b"") if last is None else _block_id(last),
        last_commit_hash=_hex(value, "last_commit_hash"),
        data_hash=_hex(value, "data_hash"),
        validators_hash=_hex(value, "validators_hash"),
        next_validators_hash=_hex(value, "next_validators_hash"),
        consensus_hash=_hex(value, "consensus_hash"),
        app_hash=_hex(value, "app_hash"),
        last_results_hash=_hex(value, "last_results_hash"),
        evidence_hash=_hex(value, "evidence_hash"),
        proposer_address=_hex(value, "proposer_address"),
    )


def _commit(value: dict[str, Any]) -> Commit:
    return Commit(
        height=_number(value, "height"),
        round=_part(value, "round", int),
        block_id=_block_id(_part(value, "block_id", dict)),
        signatures=tuple(map(_vote, _part(value, "signatures", list))),
    )


def _vote(value: Any) -> CommitSignature:
    flag = _part(value, "block_id_flag", int)
    if flag == ABSENT:
        return NO_VOTE
    return CommitSignature(
        flag,
        _hex(value, "validator_address"),
        timestamp_of(_part(value, "timestamp", str)),
        _base64(_part(value, "signature", str)),
    )


def _validators(answer: Any) -> tuple[Validator, ...]:
    found = _part(answer, "validators", list)
    if _number(answer, "total") != len(found):
        raise Malformed(f"{len(found)} validators are here, of a set of {answer['total']}: all pages are needed")
    return tuple(map(_validator, found))


def _validator(value: Any) -> Validator:
    key = _part(value, "pub_key", dict)
    if (kind := _part(key, "type", str)) != _KEY:
        raise Malformed(f"a validator's key is of type {kind[:40]!r}: it must be {_KEY}")
    return Validator(_base64(_part(key, "value", str)), _number(value, "voting_power"))


def _block_id(value: Any) -> BlockId:
    parts = _part(value, "parts", dict)
    return BlockId(_hex(value, "hash"), _part(parts, "total", int), _hex(parts, "hash"))


def _part(value: Any, name: str, kind: type[T]) -> T:
    found = value.get(name) if type(value) is dict else None
    if type(found) is not kind:
        raise Malformed(f"an answer of CometBFT must have {name!r}, of type {kind.__name__}: {str(value)[:60]!r}")
    return found


def _number(value: Any, name: str) -> int:
    found = _part(value, name, str)
    if not _NUMBER.fullmatch(found):
        raise Malformed(f"{name} is {found[:40]!r}: it must be a whole number, as text")
    return int(found)


def _hex(value: Any, name: str) -> bytes:
    found = _part(value, name, str)
    try:
        return binascii.unhexlify(found)
    except ValueError as error:
        raise Malformed(f"{name} is {found[:80]!r}: it must be hex") from error


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed(f"{text[:80]!r} is not base64") from error
