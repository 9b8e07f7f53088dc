"""Whether a node is who the ledger says: without its keys there, whatever it does is refused by the others."""

from fedmeta.node.reducer.view import Peer


def strange(me: str, peer: Peer | None, machine: bytes, tls: bytes) -> list[str]:
    """Return what the ledger has otherwise than this node, in words, with what would be right; empty if all agrees.

    Args:
        me: The member's name in node.toml.
        peer: What the ledger has of it; None where it is no member.
        machine: The public half of the key that this machine signs with.
        tls: The fingerprint of the certificate that it shows where it listens or dials.
    """
    if peer is None:
        return [f"{me} is no member of the ledger: correct `member` in node.toml, or ask to be admitted"]
    found = []
    if peer.key != machine:
        found.append(
            f"the machine key here is {machine.hex()[:12]}, and the ledger has {peer.key.hex()[:12]}: what it signs is "
            "refused; tell the ledger by `fedmeta ledger members machine-key`"
        )
    if tls not in peer.fingerprints:
        known = " or ".join(one.hex()[:12] for one in peer.fingerprints) or "none"
        found.append(
            f"the TLS key here is {tls.hex()[:12]}, and the ledger has {known}: other members take no connection with "
            f"it; tell the ledger by `fedmeta ledger members profile --tls {tls.hex()}`"
        )
    return found
