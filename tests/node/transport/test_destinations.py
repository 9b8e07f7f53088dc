import pytest

from fedmeta.node.errors import ConfigError, Unreachable
from fedmeta.node.transport.destinations import Destinations, Place

INTERNAL = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:0a00:0001::1",
]


@pytest.mark.parametrize("address", INTERNAL)
def test_a_name_that_leads_inside_is_refused(address):
    place = Place("gate.example.org", 8443)
    with pytest.raises(Unreachable, match="not a public address"):
        Destinations(["gate.example.org:8443", "*.example.org:*"]).check_address(place, address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2600::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_a_name_that_leads_to_the_world_is_not(address):
    Destinations(["gate.example.org:8443"]).check_address(Place("gate.example.org", 8443), address)


def test_an_internal_address_may_be_approved_with_its_port():
    place = Place("gate.example.org", 8443)
    for pattern in ("10.0.0.0/8:8443", "10.0.0.1:8443", "10.0.0.1:*"):
        Destinations([pattern]).check_address(place, "10.0.0.1")
    for pattern in ("10.0.0.0/8:443", "10.0.0.2:8443", "[fc00::]/7:8443".replace("]/7", "/7]")):
        with pytest.raises(Unreachable):
            Destinations([pattern]).check_address(place, "10.0.0.1")


@pytest.mark.parametrize(
    ("pattern", "text", "taken"),
    [
        ("gate.example.org:8443", "gate.example.org:8443", True),
        ("gate.example.org:8443", "GATE.Example.org.:8443", True),
        ("gate.example.org:8443", "https://gate.example.org:8443/", True),
        ("gate.example.org:8443", "gate.example.org:8444", False),
        ("gate.example.org:*", "gate.example.org:8444", True),
        ("gate.example.org:8443", "a.gate.example.org:8443", False),
        ("*.example.org:8443", "a.gate.example.org:8443", True),
        ("*.example.org:8443", "example.org:8443", False),
        ("*.example.org:8443", "evilexample.org:8443", False),
        ("8.8.0.0/16:8443", "8.8.4.4:8443", True),
        ("8.8.0.0/16:8443", "8.9.4.4:8443", False),
        ("8.8.0.0/16:8443", "gate.example.org:8443", False),
        ("[2600::/16]:8443", "[2600::1]:8443", True),
        ("[2600::1]:8443", "[2600:0:0::1]:8443", True),
        ("8.8.8.8:8443", "[::ffff:8.8.8.8]:8443", True),
    ],
)
def test_only_what_a_pattern_names_is_approved(pattern, text, taken):
    place = Place.parse(text)
    if taken:
        Destinations([pattern]).check(place)
    else:
        with pytest.raises(Unreachable, match="is not approved here"):
            Destinations([pattern]).check(place)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gate.example.org",
        "gate.example.org:",
        "gate.example.org:0",
        "gate.example.org:65536",
        "gate.example.org:*",
        "*.example.org:8443",
        "http://gate.example.org:80",
        "gate.example.org:8443/path",
        "user@gate.example.org:8443",
        "gate example.org:8443",
        "gate.example.org:8443\r\nx: y",
        "2600::1:8443",
        "127.1:8443",
        "0x7f000001:8443",
        "2130706433:8443",
        "0177.0.0.1:8443",
        "-a.example.org:8443",
    ],
)
def test_an_address_that_is_no_place_is_refused(text):
    with pytest.raises(Unreachable, match="the address"):
        Place.parse(text)


@pytest.mark.parametrize(
    "pattern", ["", "*:8443", "host", "host:0", "host:99999", "10.0.0.1/8:443", "a.*.org:443", "*.:1"]
)
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(ConfigError, match="the destination"):
        Destinations([pattern])


def test_places_are_written_as_they_are_read():
    for text in ("gate.example.org:8443", "[2600::1]:8443", "10.0.0.1:1"):
        assert str(Place.parse(text)) == text
