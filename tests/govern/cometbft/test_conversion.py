"""Each call of ABCI 2.0: from bytes written by the numbers of its specification to plain values, and back."""

import pytest

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.engines.cometbft.conversion import METHODS, UNASKED, answer, read_request
from fedmeta.govern.errors import Malformed
from tests.govern.cometbft.protobuf import encode
from tests.govern.cometbft.recorder import Recorder

KEY, ADDRESS, HASH = bytes(range(32)), b"a" * 20, b"h" * 32
TIME = [(1, 1_700_000_000), (2, 123_456_789)]
NANOSECONDS = 1_700_000_000_123_456_789
EVIDENCE = [(1, 2), (2, [(1, ADDRESS), (3, 7)]), (3, 9), (4, TIME), (5, 40)]
MISBEHAVIOUR = abci.Misbehaviour(abci.Fault.LIGHT_CLIENT_ATTACK, abci.Validator(ADDRESS, 7), 9, NANOSECONDS, 40)
LAST = abci.LastCommit(1, (abci.Vote(abci.Validator(ADDRESS, 7), abci.VoteFlag.COMMIT),))
PARAMETERS = [
    (1, [(1, 1_000), (2, -1)]),
    (2, [(1, 100), (2, [(1, 3_600), (2, 5)]), (3, 500)]),
    (3, [(1, "ed25519")]),
    (4, [(1, 6)]),
]
PLAIN_PARAMETERS = abci.ConsensusParameters(
    abci.BlockParameters(1_000), abci.EvidenceParameters(100, 3_600_000_000_005, 500), ("ed25519",), 6
)
SNAPSHOT = [(1, 8), (2, 1), (3, 3), (4, HASH), (5, b"meta")]
BLOCK = abci.BlockRequest((b"x", b"", b"yz"), LAST, (MISBEHAVIOUR,), HASH, 12, NANOSECONDS, HASH[:31], ADDRESS)
BLOCK_FIELDS = [
    *[(1, b"x"), (1, b""), (1, b"yz")],
    (2, [(1, 1), (2, [(1, [(1, ADDRESS), (3, 7)]), (3, 2)])]),
    (3, EVIDENCE),
    *[(4, HASH), (5, 12), (6, TIME), (7, HASH[:31]), (8, ADDRESS)],
]

EXTENDED_VOTE = [(1, [(1, ADDRESS), (3, 7)]), (3, b"extension"), (5, 2)]
PREPARED = [(1, 900), (2, b"x"), (2, b""), (3, [(1, 1), (2, EXTENDED_VOTE)])]

CALLS = {
    "info": (
        (3, [(1, "0.38.26"), (2, 11), (3, 8), (4, "2.0.0")]),
        (abci.InfoRequest("0.38.26", 11, 8, "2.0.0"),),
        abci.InfoAnswer(height=5, app_hash=HASH, app_version=2, version="1", data="d"),
        (4, [(1, "d"), (2, "1"), (3, 2), (4, 5), (5, HASH)]),
    ),
    "init_chain": (
        (5, [(1, TIME), (2, "chain"), (3, PARAMETERS), (4, [(1, [(1, KEY)]), (2, 10)]), (5, b"{}"), (6, 1)]),
        (abci.ChainRequest(NANOSECONDS, "chain", PLAIN_PARAMETERS, (abci.ValidatorUpdate(KEY, 10),), b"{}", 1),),
        abci.ChainAnswer(HASH, (abci.ValidatorUpdate(KEY, 3),), PLAIN_PARAMETERS),
        (6, [(1, PARAMETERS), (2, [(1, [(1, KEY)]), (2, 3)]), (3, HASH)]),
    ),
    "query": (
        (6, [(1, b"key"), (2, "/record"), (3, 4), (4, 1)]),
        (abci.QueryRequest("/record", b"key", 4, True),),
        abci.QueryAnswer(3, "l", "i", b"k", b"v", (abci.ProofOperation("m", b"k", b"p"),), 4, "c"),
        (7, [(1, 3), (3, "l"), (4, "i"), (6, b"k"), (7, b"v"), (8, [(1, [(1, "m"), (2, b"k"), (3, b"p")])]),
             (9, 4), (10, "c")]),
    ),
    "check_tx": (
        (8, [(1, b"tx"), (2, 1)]),
        (b"tx", True),
        abci.TxResult(7, b"d", "l", "i", "c"),
        (9, [(1, 7), (2, b"d"), (3, "l"), (4, "i"), (8, "c")]),
    ),
    "commit": ((11, []), (), 17, (12, [(3, 17)])),
    "list_snapshots": ((12, []), (), [abci.Snapshot(8, 1, 3, HASH, b"meta")], (13, [(1, SNAPSHOT)])),
    "offer_snapshot": (
        (13, [(1, SNAPSHOT), (2, HASH)]),
        (abci.Snapshot(8, 1, 3, HASH, b"meta"), HASH),
        abci.Offer.REJECT_SENDER,
        (14, [(1, 5)]),
    ),
    "load_snapshot_chunk": ((14, [(1, 8), (2, 1), (3, 2)]), (8, 1, 2), b"chunk", (15, [(1, b"chunk")])),
    "apply_snapshot_chunk": (
        (15, [(1, 2), (2, b"chunk"), (3, "peer")]),
        (2, b"chunk", "peer"),
        abci.ChunkAnswer(abci.Applied.REJECT_SNAPSHOT, (1, 300), ("peer",)),
        (16, [(1, 5), (2, b"\x01\xac\x02"), (3, "peer")]),
    ),
    "prepare_proposal": (
        (16, [*PREPARED, (4, EVIDENCE), (5, 12), (6, TIME), (7, HASH), (8, ADDRESS)]),
        (abci.ProposalRequest(900, (b"x", b""), LAST, (MISBEHAVIOUR,), 12, NANOSECONDS, HASH, ADDRESS),),
        [b"", b"x"],
        (17, [(1, b""), (1, b"x")]),
    ),
    "process_proposal": ((17, BLOCK_FIELDS), (BLOCK,), False, (18, [(1, 2)])),
    "finalize_block": (
        (20, BLOCK_FIELDS),
        (BLOCK,),
        abci.BlockAnswer(HASH, (abci.TxResult(), abci.TxResult(1)), (abci.ValidatorUpdate(KEY, 0),), PLAIN_PARAMETERS),
        (21, [(2, []), (2, [(1, 1)]), (3, [(1, [(1, KEY)])]), (4, PARAMETERS), (5, HASH)]),
    ),
}  # fmt: skip
"""By method: the request's fields, the handler's arguments, what it answers, and that answer's fields."""

NUMBERS = {name: request[0] for name, (request, *_) in CALLS.items()}
NO_TIME = abci.LastCommit(0, ())
EMPTY = {
    "info": (abci.InfoRequest("", 0, 0, ""),),
    "init_chain": (abci.ChainRequest(0, "", abci.ConsensusParameters(), (), b"", 0),),
    "query": (abci.QueryRequest("", b"", 0, False),),
    "check_tx": (b"", False),
    "commit": (),
    "list_snapshots": (),
    "offer_snapshot": (abci.Snapshot(0, 0, 0, b""), b""),
    "load_snapshot_chunk": (0, 0, 0),
    "apply_snapshot_chunk": (0, b"", ""),
    "prepare_proposal": (abci.ProposalRequest(0, (), NO_TIME, (), 0, 0, b"", b""),),
    "process_proposal": (abci.BlockRequest((), NO_TIME, (), b"", 0, 0, b"", b""),),
    "finalize_block": (abci.BlockRequest((), NO_TIME, (), b"", 0, 0, b"", b""),),
}


def test_every_method_of_a_handler_has_its_call():
    assert set(CALLS) == set(EMPTY) == set(METHODS) == abci.Handler.__abstractmethods__


@pytest.mark.parametrize("name", CALLS)
def test_a_call_reaches_the_handler_and_its_answer_goes_back(name):
    request, arguments, said, expected = CALLS[name]
    handler = Recorder(**{name: said})
    assert answer(handler, *read_request(encode(request))) == encode(expected)
    assert handler.calls == [(name, *arguments)]


@pytest.mark.parametrize("name", EMPTY)
def test_a_request_without_fields_is_one_of_defaults(name):
    handler = Recorder()
    answer(handler, *read_request(encode((NUMBERS[name], []))))
    assert handler.calls == [(name, *EMPTY[name])]


@pytest.mark.parametrize(
    ("request_fields", "expected"),
    [
        ((1, [(1, "hello")]), (2, [(1, "hello")])),
        ((1, []), (2, [])),
        ((2, []), (3, [])),
        ((18, [(1, HASH), (2, 12)]), (19, [])),
        ((19, [(1, HASH), (4, b"extension")]), (20, [(1, 1)])),
    ],
)
def test_what_needs_no_application_is_answered_without_it(request_fields, expected):
    handler = Recorder()
    assert answer(handler, *read_request(encode(request_fields))) == encode(expected)
    assert handler.calls == []
    assert len(UNASKED) == 4


@pytest.mark.parametrize(
    ("time", "nanoseconds"),
    [([(1, -62_135_596_800)], -62_135_596_800 * 10**9), ([(1, -1), (2, 5)], -999_999_995), ([], 0)],
)
def test_times_before_1970_are_times(time, nanoseconds):
    _, (chain,) = read_request(encode((5, [(1, time)])))
    assert chain.time == nanoseconds


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "0 bytes is of no kind"),
        (encode((4, [])), "of no kind"),
        (encode((99, [(1, b"later")])), "of no kind"),
        (b"\xff", "not a request"),
        (encode((3, [(1, b"\xff")])), "not a request"),
        (encode((8, [(2, 2)])), "checked in the way 2"),
        (encode((5, [(4, [(2, 10)])])), "of the kind None"),
        (encode((5, [(4, [(1, [(2, b"other")])])])), "of the kind secp256k1"),
        (encode((20, [(6, [(2, 10**9)])])), "1000000000 nanoseconds"),
        (encode((20, [(2, [(2, [(3, 4)])])])), "4 is not a valid VoteFlag"),
        (encode((20, [(3, [(1, 3)])])), "3 is not a valid Fault"),
    ],
)
def test_what_is_no_request_is_malformed(raw, words):
    with pytest.raises(Malformed, match=words):
        read_request(raw)


@pytest.mark.parametrize("said", [abci.TxResult(code=-1), abci.TxResult(code=1 << 32), abci.TxResult(log="\ud800")])
def test_an_answer_that_cannot_be_sent_is_an_error_of_the_handlers(said):
    with pytest.raises(ValueError, match=r"."):
        answer(Recorder(check_tx=said), *read_request(encode((8, []))))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_a_transaction_takes_of_a_proposal_what_protobuf_takes_for_it(size):
    assert abci.proposed_size(bytes(size)) == len(encode((1, bytes(size))))
