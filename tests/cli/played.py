"""A page on nodes, played as it stands: its commands in real processes, with a loopback address for each host."""

import contextlib
import getpass
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.cli.test_tour import check, plain

BLOCK = re.compile(r"^```(sh|text|toml|python|none)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HASH = re.compile(r"[0-9a-f]{64}")
PATIENCE = 180
"""Seconds for one command, or until a process says what is due."""


class Step(NamedTuple):
    """A block of a page, and the lines that the page says come out of it, in this order."""

    kind: str
    text: str
    due: list[str]

    @property
    def who(self):
        """Who does it, as its first line says: "each member", "River Clinic"; nothing where no line does."""
        first = self.text.splitlines()[0]
        return first[2:].split(",")[0] if first.startswith("# ") else ""


def steps(page):
    """Return the steps of a page.

    A block of `text` is what comes out of the one before; a line indented by four continues the one before.
    """
    found = []
    for match in BLOCK.finditer(page.read_text("utf-8")):
        if match[1] == "text":
            lines = re.sub(r"\n {4,}", " ", match[2]).splitlines()
            found[-1].due.extend(line for line in map(plain, lines) if line != "...")
        else:
            found.append(Step(match[1], match[2], []))
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Hosts:
    """Hosts on loopback, and what runs on them.

    `members` have seats, and addresses from 10.0.0.1 on; the first is the founder, whose name stands for each of them
    on the page. `guests` have none. Where hosts are `apart` each has a folder of its own.
    """

    def __init__(self, folder, members, guests=(), apart=False):
        self.folder = folder
        self.members = members
        self.apart = apart
        self.ports = {"7878": free_port(), "7979": free_port()}
        self.metrics = {name: free_port() for name in members}
        self.running = {}
        bin = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
            "FEDMETA_PASSPHRASE": "of the tests",
            "FEDMETA_NODE": f"http://127.0.0.1:{self.ports['7878']}",
        }
        for name in (*members, *guests):
            self.place(name).mkdir(exist_ok=True)

    def place(self, member):
        """Return the folder in which a member's commands run."""
        return self.folder / member if self.apart else self.folder

    def gate(self, member):
        """Return a member's address on the page."""
        return f"10.0.0.{self.members.index(member) + 1}:7979"

    def here(self, text, member=None):
        """Return a text of the page as it is on this machine, where it stands for a member as that member's.

        Everything in which this machine differs from the page's hosts is here: names, addresses, ports.
        """
        ports = dict(self.ports)
        if member is not None:
            text = text.replace(self.gate(self.members[0]), self.gate(member)).replace(self.members[0], member)
            ports["9121"] = self.metrics[member]
        text = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: str(ports[found[1]]), text)
        return text.replace("10.0.0.", "127.0.0.")

    def there(self, said):
        """Return what came out as it is on the page."""
        for port, other in self.ports.items():
            said = re.sub(rf"\b{other}\b", port, said)
        said = said.replace("127.0.0.", "10.0.0.")
        return re.sub(rf"\b{getpass.getuser()}(, until | can open| has no network)", r"root\1", said)

    def play(self, script, member=None, answer="", code=0):
        """Run a script on a member's host, the founder's by default, and return what it says."""
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.place(member or self.members[0]),
            env=self.environment,
            input=answer,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == code, script + done.stdout + done.stderr
        return done.stdout

    def start(self, name, script, due, member=None):
        """Start what goes on, and return what it says until all that is due has come."""
        log = self.folder / f"{name}.log"
        with log.open("w") as file:
            self.running[name] = subprocess.Popen(
                ["bash", "-c", f"exec {script.splitlines()[-1]}"],
                cwd=self.place(member or self.members[0]),
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

    def check(self, due, said, script):
        """Check that what is due by the page came out; a terminal shows what is typed, too."""
        check(due, self.there(said).replace("[y/N]: ", "[y/N]: y\n"), script)

    def stop(self, name, how=signal.SIGTERM):
        process = self.running.pop(name)
        process.send_signal(how)
        assert process.wait(60) == 0, (self.folder / f"{name}.log").read_text()

    def close(self):
        for process in self.running.values():
            # A node is several processes, of one session.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    # What the page says that people must do by hand.

    def fill(self, text, digests):
        """Write federation.toml, with the members' keys and the digests that the page leaves out."""
        keys = [self.play(f"fedmeta ledger key public {name}.pem", name).strip() for name in self.members]
        for one in (*keys, *digests):
            text = text.replace('"..."', f'"{one}"', 1)
        assert '"..."' not in text
        (self.place(self.members[0]) / "federation.toml").write_text(text)

    def edit(self, file, text, member=None):
        """Write the sections of a block of TOML into node.toml. Users are left out: who runs tests cannot make any.

        The gates in it are those of all members, so that none of them becomes this member's own.
        """
        if member is not None:
            text = re.sub(r"\b9121\b", str(self.metrics[member]), text)
        written = file.read_text()
        for section in self.here(text).strip().split("\n\n"):
            head, keys = section.split("\n", 1)
            if head != "[users]":
                assert head in written, f"{file} has no {head}"
                written = written.replace(head, f"{head}\n{keys}")
        file.write_text(written)

    def fingerprint(self, file, member=None):
        """Return the digest of the TLS key in a file on a member's host."""
        command = f"openssl x509 -in {file} -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum"
        return self.play(command, member).split()[0]
