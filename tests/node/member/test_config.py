"""The node's file: every key is documented, read as it is meant, and refused in words where it is not."""

import tomllib

import pytest

from fedmeta.node.errors import ConfigError, Unreachable
from fedmeta.node.member import config, policy, settings
from fedmeta.node.transport.destinations import Place
from tests.node.member.made import GENESIS, configured, content

SUPER = {"role": "super", "listen__address": "0.0.0.0:7979", "listen__public": "https://node.coast.example:7979"}
NEEDED = {"member": "coast", "ledger.addresses": ("http://10.0.0.2:7878",), "ledger.genesis": bytes.fromhex(GENESIS)}


def test_what_is_not_set_has_the_default_of_the_table(tmp_path):
    found = configured(tmp_path)
    for row in config.TABLE:
        if row.section and not row.needed:
            assert getattr(getattr(found, row.section), row.key) == row.default, row.name
    assert (found.member, found.role, found.ledger.genesis.hex()) == ("coast", "contributor", GENESIS)


def test_a_template_is_read_as_the_values_that_it_was_made_of(tmp_path):
    found = config.of(tomllib.loads(config.template(NEEDED)), tmp_path)
    assert found == configured(tmp_path, ledger__addresses=["http://10.0.0.2:7878"])


def test_a_template_with_every_comment_taken_away_has_every_key_and_no_other():
    bare = "\n".join(
        line.removeprefix("# ") for line in config.template(NEEDED).splitlines() if " = " in line or "[" in line
    )
    found = tomllib.loads("\n".join(line for line in bare.splitlines() if " = " in line or line.startswith("[")))
    keys = {f"{section}.{name}" for section, part in found.items() if isinstance(part, dict) for name in part}
    keys |= {name for name, value in found.items() if not isinstance(value, dict)}
    assert keys == {row.name for row in config.TABLE}


@pytest.mark.parametrize("module", [config, policy])
def test_every_key_is_documented_once_on_the_page_and_in_the_template(module):
    page = module.page()
    text = module.template(NEEDED) if module is config else module.template()
    for row in module.TABLE:
        assert page.count(f"| `{row.name}` |") == 1
        assert row.meaning in text
        assert not row.meaning.endswith(".")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"membr": "x"}, ("unknown key 'membr'", "'member'")),
        ({"network__proxi": "x"}, ("unknown key 'proxi' in [network]", "'proxy'")),
        ({"ledgr__x": 1}, ("unknown key 'ledgr'", "'ledger'")),
        ({"member": 5}, ("member is 5", "a text")),
        ({"member": "Coast!"}, ("Coast!", "a-z")),
        ({"member": ""}, ("member", "needed")),
        ({"role": "sper"}, ("role is 'sper'", "did you mean 'super'")),
        ({"ledger__addresses": []}, ("ledger.addresses", "needed")),
        ({"ledger__addresses": "http://a"}, ("ledger.addresses", "a list of texts")),
        ({"ledger__addresses": ["ftp://a"]}, ("ftp://a", "https://")),
        ({"ledger__addresses": ["http://a:x"]}, ("http://a:x", "https://")),
        ({"ledger__genesis": "12"}, ("ledger.genesis is '12'", "64 hexadecimal digits")),
        ({"ledger__genesis": ""}, ("ledger.genesis", "needed")),
        ({"network": 5}, ("network is 5", "[network]")),
        ({"network__inspected": "yes"}, ("network.inspected is 'yes'", "true or false")),
        ({"network__proxy": "proxy:3128"}, ("network.proxy", "proxy:3128")),
        ({"network__destinations": ["node.example"]}, ("node.example", ":7979")),
        ({"network__bandwidth": -1}, ("network.bandwidth is -1", "at least 0")),
        ({"network__bandwidth": "fast"}, ("network.bandwidth is 'fast'", "a number")),
        ({"metrics__port": 70_000}, ("metrics.port is 70000", "from 0 to 65,535")),
        ({"metrics__port": True}, ("metrics.port is True", "a whole number")),
        ({"storage__quota": "20 XB"}, ("storage.quota is '20 XB'", "20 GB")),
        ({"storage__quota": "1 KB"}, ("storage.quota is '1 KB'", "at least 1,000,000")),
        ({"data__reading": "csv"}, ("data.reading is 'csv'", "a table")),
        ({"listen__address": "0.0.0.0:1"}, ("contributor never listens",)),
        ({"role": "super"}, ("listen.address and listen.public must be set",)),
        ({**SUPER, "listen__address": "7979"}, ("listen.address is '7979'", "0.0.0.0:7979")),
        ({**SUPER, "listen__public": "http://a:1"}, ("listen.public", "http://a:1", "https://")),
        ({"users__core": "a"}, ("users has", "a user of its own")),
        ({"users__core": "a", "users__trainer": "a"}, ("users has", "a user of its own")),
        ({**SUPER, "users__core": "a", "users__trainer": "b"}, ("gate=''", "a user of its own")),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_would_be_right(tmp_path, changed, says):
    with pytest.raises(ConfigError) as error:
        configured(tmp_path, **changed)
    assert str(error.value).startswith("node.toml: ")
    assert [part for part in says if part not in str(error.value)] == []


def test_a_needed_key_that_is_missing_is_named_with_an_example(tmp_path):
    with pytest.raises(ConfigError, match=r"member is missing: set it, such as member = \"coast\""):
        config.of({"ledger": content()["ledger"]}, tmp_path)
    with pytest.raises(ConfigError, match=r"ledger.addresses is missing: set it in \[ledger\]"):
        config.of({"member": "coast"}, tmp_path)


def test_a_file_that_is_absent_or_no_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*node.toml: `fedmeta node init`"):
        config.read(tmp_path)
    (tmp_path / "node.toml").write_text("member = ")
    with pytest.raises(ConfigError, match="not a TOML file"):
        config.read(tmp_path)
    (tmp_path / "node.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not a TOML file"):
        config.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "size"), [("20 GB", 20 * 10**9), ("1.5mb", 1_500_000), (5_000_000, 5_000_000), ("2 M", 2 * 10**6)]
)
def test_sizes_are_read_with_their_units(tmp_path, text, size):
    assert configured(tmp_path, storage__quota=text).storage.quota == size


@pytest.mark.parametrize("size", [1, 999, 1_000, 1_500_000, 20 * 10**9, 3 * 10**12])
def test_a_size_that_is_round_is_said_so_that_it_is_read_again(size):
    assert settings.KINDS["size"].read(settings.said_size(size)) == size


def test_peers_are_reached_as_the_file_says(tmp_path):
    made = {
        "network__proxy": "http://ada:a%20b@proxy.example:3128",
        "network__ca": "ca.pem",
        "network__inspected": True,
    }
    found = configured(tmp_path, **made, network__destinations=["node.north.example:7979"])
    route = found.route
    assert (str(route.proxy.place), route.proxy.user, route.proxy.password) == ("proxy.example:3128", "ada", "a b")
    assert (route.inspected, route.authority, route.certificate) == (
        True,
        tmp_path / "ca.pem",
        tmp_path / "keys/tls.pem",
    )
    route.destinations.check(Place("node.north.example", 7979))
    with pytest.raises(Unreachable, match="not approved"):
        route.destinations.check(Place("node.north.example", 22))
    plain = configured(tmp_path).route
    assert (plain.proxy, plain.inspected, plain.authority) == (None, False, None)


@pytest.mark.parametrize("value", ['a"b\\c\x7f\x01é', True, 5, 1.5, ["a", "b"], {"a b": "c"}, {}])
def test_values_are_written_as_toml_reads_them(value):
    assert tomllib.loads(f"x = {settings.toml(value)}") == {"x": value}
