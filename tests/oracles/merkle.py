"""The Merkle tree hash and the audit path as RFC 6962, section 2.1, defines them, by recursion."""

from hashlib import sha256


def _split(count):
    half = 1
    while half * 2 < count:
        half *= 2
    return half


def tree_head(leaves):
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    half = _split(len(leaves))
    return sha256(b"\x01" + tree_head(leaves[:half]) + tree_head(leaves[half:])).digest()


def audit_path(leaves, index):
    if len(leaves) == 1:
        return []
    half = _split(len(leaves))
    if index < half:
        return [*audit_path(leaves[:half], index), tree_head(leaves[half:])]
    return [*audit_path(leaves[half:], index - half), tree_head(leaves[:half])]
