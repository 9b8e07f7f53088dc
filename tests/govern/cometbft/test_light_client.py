"""What real validators certify convinces a follower, a light client and an audit; and what the others sign does not."""

import time
from dataclasses import replace

import pytest

from fedmeta.govern.client.audit import verify_ledger
from fedmeta.govern.client.follower import Follower
from fedmeta.govern.errors import ProofError
from fedmeta.govern.machine.trust import Checkpoint
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.commits import decode_certificate
from tests.examples import in_soak
from tests.govern.cometbft.ledgers import Ledgers
from tests.govern.cometbft.network import needs_cometbft
from tests.govern.playing import consensus_key, federation
from tests.waiting import until

pytestmark = needs_cometbft


def now():
    return time.time_ns() // 1_000_000


def genesis(**options):
    return replace(federation(validators=True, unbonding_seconds=600, **options), time=now())


def catch_up(follower, client, height):
    """Follow until a height has been executed."""

    def there():
        while (block := client.encoded_block(follower.height + 1)) is not None:
            follower.check(block, now())
            follower.apply(block, now())
        return follower.height >= height

    until(there)


def test_one_validator_convinces_a_follower_and_a_client_and_its_file_an_audit():
    made = genesis(super_nodes=1)
    with Ledgers(made) as network:
        network.start()
        network.wait(2)
        follower = Follower(made)
        with network.client(0, "hal") as client:
            height = client.send(tx.Delegate("eve", 5)).height
            catch_up(follower, client, height)
            until(lambda: client.status()["height"] >= height)
            assert client.proof("member", "hal").sequence == 1
            assert client.checked_header(height).hash == follower.header_hash(height)
            point = client.checkpoint()
        with network.client(0, checkpoint=point) as client:
            assert client.proof("member", "hal").sequence == 1
        lie = Checkpoint(point.height, bytes(32))
        with network.client(0, checkpoint=lie) as client, pytest.raises(ProofError, match="the checkpoint is"):
            client.proof("member", "hal")
        assert verify_ledger(network[0].folder / "ledger.db").sound


@in_soak
def test_four_validators_of_whom_one_takes_another_key_and_falls_silent_are_followed_from_genesis_on():
    made = genesis()
    with Ledgers(made) as network:
        network.start()
        network.wait(2)
        follower = Follower(made)
        with network.client(0, "hal") as client:
            catch_up(follower, client, client.send(tx.Delegate("eve", 5)).height)
        # It has the least power: three of four go on without it.
        last = network.names[-1]
        with network.client(1, last) as client:
            changed = client.send(consensus_key(last, made)).height
        with network.client(2, "ivy") as client:
            height = client.send(tx.Delegate("fay", 7)).height
            catch_up(follower, client, height)
            certificates = [client.header(at)["certificate"] for at in (changed, height)]
            assert client.checked_header(height).hash == follower.header_hash(height)
            assert client.proof("member", "ivy").sequence == 1
            status = client.status()
        before, after = (decode_certificate(bytes.fromhex(one)) for one in certificates)
        assert before.next_validators
        assert after.validators == before.next_validators
        assert follower.state.root.hex() == status["app_hash"]
        assert verify_ledger(network[2].folder / "ledger.db").sound
