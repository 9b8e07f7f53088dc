"""The page on a federation of three members, played as it stands, with a loopback address for each host."""

import signal
import tomllib
from pathlib import Path

import pytest

from fedmeta.node.member import config
from tests.cli import played
from tests.cli.played import HASH, Hosts
from tests.examples import TIMES
from tests.node.member.made import content

PAGE = Path(__file__).parents[2] / "docs" / "how-to-node.md"
MEMBERS = ("north", "east", "south")


def rows(count):
    return [
        f"{20 + at % 70},{at % 37}.5,{'yes' if at % 3 else 'no'},{'yes' if at % 5 > 2 else 'no'}" for at in range(count)
    ]


@pytest.mark.skipif(not TIMES, reason="three nodes in real time: a part of `make soak`")
def test_the_page_comes_out_as_it_says(tmp_path):
    hosts = Hosts(tmp_path, MEMBERS)
    for at, name in enumerate(MEMBERS):
        (tmp_path / f"{name}.csv").write_text("\n".join(["age,crp,smoker,ill", *rows(60 + 20 * at)]) + "\n")
    tomls = 0
    try:
        for kind, text, due in played.steps(PAGE):
            if kind == "python":
                (tmp_path / "study.py").write_text(text)
            elif kind == "toml":
                tomls += 1
                if tomls == 1:
                    hosts.fill(text, HASH.findall((tmp_path / "study.out").read_text()))
                elif tomls == 2:
                    for name in MEMBERS:
                        hosts.edit(tmp_path / f"{name}-node" / "node.toml", text, name)
            elif kind == "sh" and "by hand" not in text and not text.startswith("export"):
                one_step(hosts, text, due)
        for name in MEMBERS:
            hosts.stop(name)
        hosts.stop("ledger", signal.SIGINT)
    finally:
        hosts.close()


def one_step(hosts, text, due):
    each = text.startswith("# each member")
    for name in MEMBERS if each else ("north",):
        script = hosts.here(text, name)
        if "ledger serve" in script:
            hosts.start("ledger", f"{script.strip()} --port {hosts.ports['7878']} --block-interval 0.5", due)
            hosts.play("cp fed/genesis.cbor .")
        elif "node start" in script:
            hosts.start(name, script, due if name == "north" else [])
        else:
            if "-tls " in script or "--tls " in script:
                owner = "east" if text.startswith("# east") else name
                file = "tls-next.pem" if "--tls" not in script else "tls.pem"
                script = HASH.sub(hosts.fingerprint(f"{owner}-node/keys/{file}"), script)
            restart = "mv east-node" in script
            if restart:
                hosts.stop("east")
            said = hosts.play(script)
            if restart:
                hosts.start("east", hosts.here("fedmeta node start --folder north-node", "east"), ["the gate listens"])
            if name == "north":
                hosts.check(due, said, script)
            if script.startswith("# the founder\npython3 study.py"):
                (hosts.folder / "study.out").write_text(said)


def test_what_the_page_writes_into_node_toml_is_known_there(tmp_path):
    shown = [tomllib.loads(text) for kind, text, _ in played.steps(PAGE) if kind == "toml"][1:]
    assert len(shown) >= 4
    for one in shown:
        found = config.of({**content(), **one}, tmp_path)
        for section, keys in one.items():
            assert set(keys) <= set(getattr(found, section).__dataclass_fields__)
