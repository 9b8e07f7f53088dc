"""Where a node may dial: an address on the ledger must not aim it at what a person has not approved.

A pattern is HOST:PORT. HOST is a name, "*." and a name for all names below it, an IP address, or a network as
10.2.0.0/16; an IPv6 address or network stands in brackets. PORT is a number, or * for any. A name that leads to an
address that is not public (private, loopback, link-local, and other special ranges of RFC 6890) is refused unless a
pattern with that address or its network, and the port, is there too.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fedmeta.node.errors import ConfigError, Unreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SPLIT = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5}|\*)")
_LABEL = "(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?")


class Place(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @staticmethod
    def parse(text: str) -> "Place":
        """Return the place of HOST:PORT, as addresses stand on the ledger, with or without https:// before it.

        Raises:
            Unreachable: it is something else.
        """
        found = _SPLIT.fullmatch(text.removeprefix("https://").removesuffix("/").lower())
        host = (found[1] or found[2]) if found else ""
        if found is None or found[3] == "*" or not 0 < int(found[3]) < 65536:
            raise Unreachable(f"the address {text!r} is not HOST:PORT")
        if _address(host) is None and (not _HOST.fullmatch(host) or host.startswith("*") or not _is_name(host)):
            raise Unreachable(f"the address {text!r} has no host's name and no IP address")
        return Place(host.rstrip("."), int(found[3]))


@dataclass(frozen=True, slots=True)
class _Pattern:
    network: Network | None
    name: str
    port: int | None

    def takes(self, host: str, address: Address | None, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if self.network is not None:
            return address is not None and address in self.network
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return address is None and host == self.name


class Destinations:
    """The places that a person has approved."""

    def __init__(self, patterns: Sequence[str]):
        """Approve what the patterns say; raises `ConfigError` for one that is none."""
        self._patterns = tuple(map(_pattern, patterns))

    def check(self, place: Place) -> None:
        """Raise `Unreachable` unless a place is approved by its name, or by its address if it has no name."""
        address = _address(place.host)
        if not any(pattern.takes(place.host, address, place.port) for pattern in self._patterns):
            raise Unreachable(f"{place} is not approved here: a person must add it to the approved destinations")

    def check_address(self, place: Place, resolved: str) -> None:
        """Raise `Unreachable` where a place's address is not public and not approved as an address."""
        address = _plain(ipaddress.ip_address(resolved.partition("%")[0]))
        if address.is_global and not address.is_multicast:
            return
        if not any(pattern.takes("", address, place.port) for pattern in self._patterns if pattern.network is not None):
            raise Unreachable(
                f"{place} leads to {address}, which is not a public address: if that is meant, a person must approve "
                "the address, with its port, too"
            )


def _pattern(text: str) -> _Pattern:
    found = _SPLIT.fullmatch(text.lower())
    if found is None or (found[3] != "*" and not 0 < int(found[3]) < 65536):
        raise ConfigError(f"the destination {text!r} is not HOST:PORT")
    host, port = found[1] or found[2], None if found[3] == "*" else int(found[3])
    try:
        return _Pattern(ipaddress.ip_network(host), "", port)
    except ValueError:
        if not _HOST.fullmatch(host) or not _is_name(host):
            raise ConfigError(f"the destination {text!r} has no name, IP address or network as its host") from None
    return _Pattern(None, host.rstrip("."), port)


def _is_name(host: str) -> bool:
    """Return whether a host is no number: resolvers read 127.1, 0x7f000001 and 2130706433 as 127.0.0.1."""
    last = host.rstrip(".").rpartition(".")[2]
    return not last.isdigit() and re.fullmatch("0x[0-9a-f]*", last) is None


def _address(host: str) -> Address | None:
    try:
        return _plain(ipaddress.ip_address(host))
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    """Return the IPv4 address within an IPv6 one that only stands for it, so that it is judged as what it is."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
