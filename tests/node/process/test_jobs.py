"""What a core asks its trainer, over a socket that has two ends and no name."""

import socket
import threading

import pytest

from fedmeta.node.process import jobs


@pytest.fixture
def ends():
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_heads_and_blobs_come_as_they_were_sent(ends):
    here, there = ends
    blobs = [b"", b"a", bytes(3_000_000)]
    sender = threading.Thread(target=jobs.send, args=(here, {"job": "train", "round": 3}, blobs))
    sender.start()
    head, found = jobs.receive(there)
    sender.join()
    assert (head, found) == ({"job": "train", "round": 3}, blobs)


def test_the_end_of_the_other_end_is_said(ends):
    here, there = ends
    here.close()
    with pytest.raises(EOFError, match="gone"):
        jobs.receive(there)


def test_half_a_message_is_the_end(ends):
    here, there = ends
    here.sendall((100).to_bytes(4, "big") + b"abc")
    here.close()
    with pytest.raises(EOFError, match="gone"):
        jobs.receive(there)


def test_a_head_that_is_too_large_is_not_read(ends):
    here, there = ends
    here.sendall((1 << 30).to_bytes(4, "big"))
    with pytest.raises(EOFError, match="too large"):
        jobs.receive(there)
