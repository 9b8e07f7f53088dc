"""The checks before a start: each finds what it is there for, and says what to do."""

import contextlib
import socket
import ssl
import threading
from datetime import date, timedelta

import pytest

from fedmeta.govern.wire.signatures import Key
from fedmeta.node.errors import ConfigError, Unreachable
from fedmeta.node.member import checks, checks_of_ledger, checks_of_work, dialling, folder, reaching
from fedmeta.node.member import config as configs
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.member.describing import describe
from fedmeta.node.transport import certificates
from fedmeta.node.transport.destinations import Destinations, Place
from tests.node.member.made import configured, procedure, table
from tests.node.member.test_folder import VALUES

SUPER = {"role": "super", "listen__address": "0.0.0.0:7979", "listen__public": "https://node.coast.example:7979"}


@pytest.fixture
def node(tmp_path):
    return folder.make(tmp_path / "coast", VALUES)


def by_name(rows):
    return {row.name: row for row in rows}


def one(rows, name, state, *says):
    """Check that a row is in this state and says this; what does not hold has an advice."""
    row = by_name(rows)[name]
    assert row.state == state, row
    assert [part for part in says if part not in f"{row.found} {row.advice}"] == []
    assert row.state == "ok" or row.advice
    return row


def test_a_new_folder_holds(node):
    rows = checks.run(node.path, ())
    assert checks.worst(rows) == "ok" or by_name(rows)["disk space"].state == "warning"
    assert {"python", "packages", "configuration", "folder", "machine key", "secret", "TLS key"} <= by_name(rows).keys()


def test_without_a_configuration_nothing_else_is_looked_at(tmp_path):
    rows = checks.run(tmp_path, (lambda _: pytest.fail("looked"),))
    one(rows, "configuration", "fails", "there is no", "fedmeta node init")
    assert checks.worst(rows) == "fails"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(checks, "PACKAGES", ("numpy", "surely-not-installed"))
    one(checks.check_packages(), "packages", "fails", "surely-not-installed", "pip install")


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_folder_that_others_can_use_fails(node, mode):
    node.path.chmod(mode)
    one(checks.check_folder(configs.read(node.path)), "folder", "fails", f"mode {mode:04o}", "chmod 700")


def test_with_users_of_their_own_others_may_pass_and_not_look(node):
    config = configured(node.path, users__core="a", users__trainer="b")
    node.path.chmod(0o711)
    one(checks.check_folder(config), "folder", "ok")
    node.path.chmod(0o755)
    one(checks.check_folder(config), "folder", "fails", "chmod 711")


@pytest.mark.parametrize(
    ("file", "name"), [("machine.pem", "machine key"), ("secret", "secret"), ("tls.pem", "TLS key")]
)
def test_a_key_that_is_missing_or_open_to_others_fails(node, file, name):
    config = configs.read(node.path)
    (node.keys / file).chmod(0o644)
    one(checks.check_keys(config), name, "fails", "mode 0644", "chmod 600")
    (node.keys / file).unlink()
    one(checks.check_keys(config), name, "fails", "there is no", file)


def test_a_file_that_is_no_key_fails(node):
    config = configs.read(node.path)
    for file, name, says in (("machine.pem", "machine key", "no Ed25519 key"), ("secret", "secret", "has 3 bytes")):
        (node.keys / file).write_bytes(b"abc")
        one(checks.check_keys(config), name, "fails", says)


def test_an_account_key_is_looked_at_only_where_it_is_kept(node):
    assert "account key" not in by_name(checks.check_keys(configs.read(node.path)))
    one(
        checks.check_keys(configured(node.path, keys__account="keys/account.pem")),
        "account key",
        "fails",
        "there is no",
    )


def test_a_quota_beyond_the_disk_is_a_warning(node):
    one(checks.check_disk(configured(node.path, storage__quota="900000 TB")), "disk space", "warning", "900000 TB")
    assert not list(node.path.glob(".flush*"))


@pytest.mark.parametrize(
    ("times", "state"), [([0.001] * 4 + [9.0], "ok"), ([0.2] * 5, "warning"), ("Read-only file system", "fails")]
)
def test_the_speed_of_the_disk_is_judged_by_the_middle_flush(times, state):
    assert checks.judge_flush(times).state == state


@pytest.mark.parametrize(("here", "state"), [(1000, "ok"), (1059, "ok"), (9000, "ok"), (941, "ok"), (939, "warning")])
def test_only_a_clock_behind_the_ledger_is_worth_a_warning(here, state):
    assert checks_of_ledger.judge_clock(float(here), 1000.0).state == state


PUBLIC = Key.from_seed(bytes(32)).public.hex()


def member(node, **changed):
    machine = folder.public_keys(node)[0].hex()
    usual = {
        "name": "coast",
        "active": True,
        "organisation": "practice",
        "public": PUBLIC,
        "address": "",
        "tls": "",
        "next_tls": "",
    }
    return {**usual, "machine": {"public": machine}, **changed}


def test_the_members_keys_are_compared_with_the_ledger(node):
    config = configs.read(node.path)
    one(checks_of_ledger.judge_member(config, member(node)), "machine key on the ledger", "ok")
    foreign = member(node, machine={"public": PUBLIC})
    found = checks_of_ledger.judge_member(config, foreign)
    one(found, "machine key on the ledger", "fails", "members machine-key", "--as coast")
    none = checks_of_ledger.judge_member(config, member(node, machine=None))
    one(none, "machine key on the ledger", "fails")
    (node.keys / "account.pem").write_bytes((node.keys / "machine.pem").read_bytes())
    account = configured(node.path, keys__account="keys/account.pem")
    one(checks_of_ledger.judge_member(account, member(node)), "account key on the ledger", "fails", "right key")


def test_who_is_no_member_is_told(node):
    config = configs.read(node.path)
    for own in (None, member(node, active=False)):
        one(checks_of_ledger.judge_member(config, own), "member", "fails", "coast is no member")


def test_a_super_node_must_be_found_where_the_ledger_says(node):
    public = "https://coast.example:7979"
    config = configured(node.path, role="super", listen__address="0.0.0.0:7979", listen__public=public)
    one(checks_of_ledger.judge_member(config, member(node)), "public address", "warning", public, "profile --address")
    assert "public address" not in by_name(checks_of_ledger.judge_member(config, member(node, address=public)))


A, B = bytes(32), b"\x01" * 32


@pytest.mark.parametrize(
    ("shown", "pinned", "inspected", "state"),
    [
        (A, (A,), False, "ok"),
        (A, (B, A), False, "ok"),
        (A, (B,), False, "fails"),
        (A, (B,), True, "ok"),
        (b"", (B,), False, "fails"),
        (A, (), False, "warning"),
    ],
)
def test_a_certificate_that_is_not_the_pinned_one_is_inspection(shown, pinned, inspected, state):
    row = checks_of_ledger.judge_certificate("peer north", shown, pinned, inspected)
    assert row.state == state
    assert ("network.inspected" in f"{row.found} {row.advice}") == (shown not in pinned and pinned != ())


@contextlib.contextmanager
def tls_server(folder):
    """Yield the port and the fingerprint of a server that shows a certificate of its own."""
    made = certificates.create("north")
    (folder / "server.pem").write_bytes(made.to_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with accepting(lambda plain: context.wrap_socket(plain, server_side=True).close()) as port:
        yield port, made.fingerprint


@contextlib.contextmanager
def accepting(serve):
    """Yield a port whose connections are served, one after another, until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def loop():
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with plain, contextlib.suppress(OSError):
                    serve(plain)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def proxy_to(port, answer=b"HTTP/1.1 200 OK\r\n\r\n", asked=None):
    """Return what serves a connection as a proxy that leads everywhere to a port."""

    def serve(plain):
        request = b""
        while b"\r\n\r\n" not in request:
            request += plain.recv(1)
        if asked is not None:
            asked.append(request)
        plain.sendall(answer)
        if not answer.startswith(b"HTTP/1.1 200"):
            return
        with socket.create_connection(("127.0.0.1", port)) as far:
            back = threading.Thread(target=pump, args=(far, plain), daemon=True)
            back.start()
            pump(plain, far)
            back.join()

    return serve


def pump(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_peers_are_dialled_if_approved_and_compared_with_the_ledger(tmp_path, node):
    with tls_server(tmp_path) as (port, fingerprint):
        peer = member(node, name="north", address=f"https://127.0.0.1:{port}", tls=fingerprint.hex())
        strange = configured(node.path)
        one(
            checks_of_ledger.check_peers(strange, [peer]),
            "peer north",
            "warning",
            "not approved",
            "network.destinations",
        )
        config = configured(node.path, network__destinations=[f"127.0.0.1:{port}"])
        one(checks_of_ledger.check_peers(config, [peer]), "peer north", "ok", fingerprint.hex()[:12])
        other = {**peer, "tls": "11" * 32}
        one(checks_of_ledger.check_peers(config, [other]), "peer north", "fails", "somebody opens TLS on the way")
        for passed in ({**peer, "name": "coast"}, {**peer, "active": False}, {**peer, "address": ""}):
            assert list(checks_of_ledger.check_peers(config, [passed])) == []
    one(checks_of_ledger.check_peers(config, [peer]), "peer north", "warning", "may be down")


def test_a_certificate_is_seen_through_a_proxy(tmp_path):
    asked, allowed = [], Destinations(["node.example:7979"])
    with tls_server(tmp_path) as (port, fingerprint), accepting(proxy_to(port, asked=asked)) as proxy:
        shown = dialling.shown_certificate(Place("node.example", 7979), allowed, f"http://ada:secret@127.0.0.1:{proxy}")
    assert certificates.fingerprint_of(shown) == fingerprint
    assert asked[0].startswith(b"CONNECT node.example:7979 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic YWRhOnNlY3JldA==\r\n" in asked[0]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 403 No\r\n\r\n", b"SSH-2.0\r\n\r\n"])
def test_a_proxy_that_refuses_is_named(answer):
    with accepting(proxy_to(0, answer)) as proxy, pytest.raises(OSError, match=r"does not connect to node\.example:1"):
        dialling.connect("node.example", 1, f"http://127.0.0.1:{proxy}")


def test_a_proxy_that_hangs_up_is_named():
    with accepting(lambda plain: plain.recv(4096)) as proxy, pytest.raises(OSError, match="not answer as a proxy"):
        dialling.connect("node.example", 1, f"http://127.0.0.1:{proxy}")


def test_a_name_that_leads_to_this_machine_is_not_dialled_unless_that_is_approved():
    place = Place("localhost", 7979)
    with pytest.raises(Unreachable, match="not a public address"):
        dialling.shown_certificate(place, Destinations([str(place)]), "")


def test_a_proxy_is_looked_for(tmp_path):
    one(checks_of_ledger.check_proxy(configured(tmp_path)), "proxy", "ok", "none")
    with accepting(lambda _: None) as port:
        config = configured(tmp_path, network__proxy=f"http://127.0.0.1:{port}")
        one(checks_of_ledger.check_proxy(config), "proxy", "ok", "takes connections")
    one(checks_of_ledger.check_proxy(config), "proxy", "fails", "correct network.proxy")


def test_no_route_to_the_ledger_says_so_for_each_address(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    config = configured(tmp_path, ledger__addresses=[address, "http://127.0.0.1:1"])
    found = list(checks_of_ledger.check_ledger(config))
    one(found, f"ledger {address}", "warning", "cannot be reached")
    one(found, "ledger", "fails", "no address of the ledger can be used")
    with pytest.raises(Unreachable, match=r"no address of the ledger can be used: .*127.0.0.1:1 cannot be reached"):
        reaching.first(config)


def test_a_private_authority_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("no")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(ConfigError, match=f"network.ca is {name}"):
            reaching.trust(configured(tmp_path, network__ca=name))


def approve(node, made, until=None):
    digest = bytes.fromhex(made.digest)
    folder.keep_procedure(node, digest, made.to_bytes())
    Approvals(node.approvals).approve(digest, "ethics 2026-17", until)
    return f"{made.digest[:12]}…"


def test_an_approved_procedure_is_checked_with_the_data(tmp_path, node):
    table(node.path / "visits.csv", 30)
    name = approve(node, procedure(tmp_path))
    found = list(checks_of_work.check_work(configured(node.path, data__paths=["visits.csv"])))
    one(found, f"approval {name}", "ok")
    one(found, f"data for {name}", "ok", "30 examples")
    one(found, f"policy for {name}", "ok")
    table(node.path / "visits.csv", 10)
    few = list(checks_of_work.check_work(configured(node.path, data__paths=["visits.csv"])))
    one(few, f"policy for {name}", "fails", "10 examples stand behind an update")
    table(node.path / "visits.csv", header="age,smokes,ill")
    wrong = list(checks_of_work.check_work(configured(node.path, data__paths=["visits.csv"])))
    one(wrong, f"data for {name}", "fails", "smoker", "[data]")


def test_what_a_super_node_holds_out_to_score_by_stands_behind_no_update(tmp_path, node):
    table(node.path / "visits.csv", 80)
    name = approve(node, procedure(tmp_path))
    config = configured(node.path, data__paths=["visits.csv"], **SUPER)
    found = list(checks_of_work.check_work(config))
    one(found, f"data for {name}", "ok", "80 examples, 20 of them held out")
    node.policy.write_text("smallest_examples = 61\n")
    one(list(checks_of_work.check_work(config)), f"policy for {name}", "fails", "60 examples stand behind an update")


def test_nothing_approved_and_what_has_ended_are_warnings(tmp_path, node):
    config = configured(node.path)
    one(checks_of_work.check_work(config), "approvals", "warning", "fedmeta node approve")
    made = procedure(tmp_path)
    name = approve(node, made, date.today() + timedelta(days=1))
    node.procedure(bytes.fromhex(made.digest)).unlink()
    one(checks_of_work.check_work(config), f"procedure {name}", "warning", "cannot read")
    Approvals(node.approvals).revoke(bytes.fromhex(made.digest), "study ended")
    found = list(checks_of_work.check_work(config))
    one(found, f"approval {name}", "warning", "revoked")
    one(found, "approvals", "warning")


def test_a_damaged_policy_or_list_of_approvals_fails(node):
    config = configured(node.path)
    node.approvals.write_text("no\n")
    one(checks_of_work.check_work(config), "approvals", "fails", "is damaged")
    node.policy.write_text("no")
    one(checks_of_work.check_work(config), "policy", "fails", "not a TOML file")


@pytest.mark.parametrize(("free", "state"), [(None, "ok"), (10**9, "ok"), (100, "warning")])
def test_memory_is_judged_by_the_model_and_the_seat(tmp_path, free, state):
    found = describe(procedure(tmp_path))
    assert checks_of_work.judge_memory(found, False, free, "x").state == state
    assert checks_of_work.judge_memory(found, True, 4 * 42 * checks_of_work.COPIES, "x").state == "warning"
    assert checks_of_work.available() is None or checks_of_work.available() > 1 << 20
