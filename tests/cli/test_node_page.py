"""The page on a federation of three members, played as it stands, with a loopback address for each host."""

import getpass
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from fedmeta.node.member import config
from tests.cli.test_tour import check, plain
from tests.examples import TIMES
from tests.node.member.made import content

PAGE = Path(__file__).parents[2] / "docs" / "how-to-node.md"
BLOCK = re.compile(r"^```(sh|text|toml|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MEMBERS = ("north", "east", "south")
HASH = re.compile(r"[0-9a-f]{64}")
PATIENCE = 180


def blocks():
    return [(match[1], match[2]) for match in BLOCK.finditer(PAGE.read_text("utf-8"))]


def steps():
    """Return (kind, text, lines that must come out in this order) of each block but those that show what comes out."""
    found = []
    for kind, text in blocks():
        if kind == "text":
            found[-1][2].extend(line for line in map(plain, text.splitlines()) if line != "...")
        else:
            found.append((kind, text, []))
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Hosts:
    """Three hosts on loopback, and what runs on them."""

    def __init__(self, folder):
        self.folder = folder
        self.ports = {"7878": free_port(), "7979": free_port()}
        self.metrics = {name: free_port() for name in MEMBERS}
        self.running = {}
        bin = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
            "FEDMETA_PASSPHRASE": "of the tests",
            "FEDMETA_NODE": f"http://127.0.0.1:{self.ports['7878']}",
        }

    def here(self, text, member="north"):
        """Return a text of the page as it is for a member on this machine."""
        at = MEMBERS.index(member) + 1
        text = text.replace("10.0.0.1:7979", f"10.0.0.{at}:7979").replace("north", member)
        for port, other in self.ports.items():
            text = text.replace(port, str(other))
        return text.replace("10.0.0.", "127.0.0.").replace("9121", str(self.metrics[member]))

    def there(self, said):
        """Return what came out as it is on the page."""
        for port, other in self.ports.items():
            said = said.replace(str(other), port)
        said = said.replace("127.0.0.", "10.0.0.")
        return re.sub(rf"\b{getpass.getuser()}(, until | can open| has no network)", r"root\1", said)

    def play(self, script):
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, script + done.stdout + done.stderr
        return done.stdout

    def start(self, name, script, due):
        """Start what goes on, and return what it says until all that is due has come."""
        log = self.folder / f"{name}.log"
        with log.open("w") as file:
            self.running[name] = subprocess.Popen(
                ["bash", "-c", f"exec {script.splitlines()[-1]}"],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while not all(any(one in plain(line) for line in self.there(log.read_text()).splitlines()) for one in due):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        return log.read_text()

    def stop(self, name, how=signal.SIGTERM):
        process = self.running.pop(name)
        process.send_signal(how)
        assert process.wait(60) == 0, (self.folder / f"{name}.log").read_text()

    def close(self):
        for process in self.running.values():
            process.kill()
            process.wait()


def rows(count):
    return [
        f"{20 + at % 70},{at % 37}.5,{'yes' if at % 3 else 'no'},{'yes' if at % 5 > 2 else 'no'}" for at in range(count)
    ]


def fill(hosts, text):
    """Write federation.toml, with the keys and digests that the page leaves out."""
    publics = [hosts.play(f"fedmeta ledger key public {name}.pem").strip() for name in MEMBERS]
    digests = HASH.findall((hosts.folder / "study.out").read_text())
    for one in (*publics, *digests):
        text = text.replace('"..."', f'"{one}"', 1)
    (hosts.folder / "federation.toml").write_text(text)


def set_up(hosts, text):
    """Set what the page says that a person must set in node.toml."""
    for name in MEMBERS:
        (network, keys), (metrics, port) = [part.split("\n", 1) for part in hosts.here(text, name).split("\n\n")]
        # The same three destinations for all: `here` has made the first one of them this member's own.
        keys = ", ".join(f'"127.0.0.{at}:{hosts.ports["7979"]}"' for at in (1, 2, 3))
        file = hosts.folder / f"{name}-node" / "node.toml"
        written = file.read_text().replace(network, f"{network}\ndestinations = [{keys}]")
        file.write_text(written.replace(metrics, f"{metrics}\n{port.strip()}"))


def fingerprint(hosts, file):
    command = f"openssl x509 -in {file} -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum"
    return hosts.play(command).split()[0]


@pytest.mark.skipif(not TIMES, reason="three nodes in real time: a part of `make soak`")
def test_the_page_comes_out_as_it_says(tmp_path):
    hosts = Hosts(tmp_path)
    for at, name in enumerate(MEMBERS):
        (tmp_path / f"{name}.csv").write_text("\n".join(["age,crp,smoker,ill", *rows(60 + 20 * at)]) + "\n")
    tomls = 0
    try:
        for kind, text, due in steps():
            if kind == "python":
                (tmp_path / "study.py").write_text(text)
            elif kind == "toml":
                tomls += 1
                if tomls == 1:
                    fill(hosts, text)
                elif tomls == 2:
                    set_up(hosts, text)
            elif "by hand" not in text and not text.startswith("export"):
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
                script = HASH.sub(fingerprint(hosts, f"{owner}-node/keys/{file}"), script)
            restart = "mv east-node" in script
            if restart:
                hosts.stop("east")
            said = hosts.play(script)
            if restart:
                hosts.start("east", hosts.here("fedmeta node start --folder north-node", "east"), ["the gate listens"])
            if name == "north":
                check(due, hosts.there(said), script)
            if script.startswith("# the founder\npython3 study.py"):
                (hosts.folder / "study.out").write_text(said)


def test_what_the_page_writes_into_node_toml_is_known_there(tmp_path):
    shown = [tomllib.loads(text) for kind, text in blocks() if kind == "toml"][1:]
    assert len(shown) >= 4
    for one in shown:
        found = config.of({**content(), **one}, tmp_path)
        for section, keys in one.items():
            assert set(keys) <= set(getattr(found, section).__dataclass_fields__)
