"""Evidence of an attack on light clients, as CometBFT takes it: a header that some signed, and that was not decided."""

import base64
import json
from dataclasses import replace

import httpx

from fedmeta.govern.engines.cometbft.home import address_of
from fedmeta.govern.wire.commit_json import certificate_of, timestamp_of
from fedmeta.govern.wire.commits import BlockId, validator_set, validators_hash, vote_sign_bytes


def attack(node, height, common, keys):
    """Return the evidence that the owners of `keys` signed a header for `height` with a state of their own.

    `common` is a height before it, at which they were validators: a light client that trusts it would skip from there.
    """
    with node.rpc() as rpc:
        answers = [rpc.commit(height), rpc.validators(height), rpc.validators(height + 1)]
        trusted, there = rpc.commit(common)["signed_header"]["header"], rpc.validators(common)["validators"]
    powers = {base64.b64decode(one["pub_key"]["value"]): int(one["voting_power"]) for one in there}
    liars = validator_set({one.public: powers[one.public] for one in keys})
    by_key = {one.public: one for one in keys}
    lie = {"app_hash": bytes(range(32)), "validators_hash": validators_hash(liars)}
    header = replace(certificate_of(*answers).header, **lie)
    block, time = BlockId(header.hash, 1, bytes(32)), answers[0]["signed_header"]["header"]["time"]
    message = vote_sign_bytes(header.chain_id, height, 0, block, timestamp_of(time))
    members = [
        {
            "address": one.address.hex().upper(),
            "pub_key": {"type": "tendermint/PubKeyEd25519", "value": base64.b64encode(one.public).decode()},
            "voting_power": str(one.power),
            "proposer_priority": "0",
        }
        for one in liars
    ]
    votes = [
        {
            "block_id_flag": 2,
            "validator_address": address_of(one.public).hex().upper(),
            "timestamp": time,
            "signature": base64.b64encode(by_key[one.public].sign(message)).decode(),
        }
        for one in liars
    ]
    commit = {
        "height": str(height),
        "round": 0,
        "block_id": {"hash": block.hash.hex().upper(), "parts": {"total": 1, "hash": block.parts_hash.hex().upper()}},
        "signatures": votes,
    }
    false = answers[0]["signed_header"]["header"] | {name: value.hex().upper() for name, value in lie.items()}
    return {
        "type": "tendermint/LightClientAttackEvidence",
        "value": {
            "ConflictingBlock": {
                "signed_header": {"header": false, "commit": commit},
                "validator_set": {"validators": members, "proposer": members[0]},
            },
            "CommonHeight": str(common),
            "ByzantineValidators": members,
            "TotalVotingPower": str(sum(powers.values())),
            "Timestamp": trusted["time"],
        },
    }


def show(node, evidence):
    """Hand evidence to a node's CometBFT, which checks it."""
    call = {"jsonrpc": "2.0", "id": 0, "method": "broadcast_evidence", "params": {"evidence": evidence}}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(node.home.rpc))) as client:
        answer = client.post("http://cometbft/", content=json.dumps(call)).json()
    assert "error" not in answer, answer
