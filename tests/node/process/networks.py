"""Networks for a federation: namespaces that are joined by cables, with routers that drop what nobody asked for."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

WORLD, ROUTER, PROXY = "fm-w", "fm-r", "fm-x"


def why_not() -> str:
    """Return why there can be no networks here; empty if they can be made."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "there is no ip or no tc (iproute2)"
    try:
        with Networks() as made:
            made.space("fm-t")
            made.inside("fm-t", "ip", "rule", "add", "pref", "100", "ipproto", "tcp", "sport", "1", "blackhole")
            made.inside("fm-t", "tc", "qdisc", "add", "dev", "lo", "root", "tbf", *RATE)
    except subprocess.CalledProcessError as error:
        return f"this kernel cannot: {error.stderr.strip()}"
    return ""


RATE = ("rate", "1mbit", "burst", "32kb", "latency", "500ms")


@dataclass
class Networks:
    """Namespaces, and cables between them; a context, after which nothing of it is left."""

    spaces: list[str] = field(default_factory=list)

    def __enter__(self) -> "Networks":
        return self

    def __exit__(self, *_: object) -> None:
        # Cables go with either of their ends.
        for one in self.spaces:
            with contextlib.suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", one)

    def space(self, name: str) -> str:
        """Make a namespace."""
        assert name.startswith("fm-")
        if os.path.exists(f"/run/netns/{name}"):
            # Of a run that was killed.
            run("ip", "netns", "del", name)
        run("ip", "netns", "add", name)
        self.spaces.append(name)
        self.inside(name, "ip", "link", "set", "lo", "up")
        return name

    def inside(self, name: str, *command: str) -> str:
        """Run a command in a namespace; "" is the machine's own."""
        return run(*(("ip", "netns", "exec", name) if name else ()), *command)

    def cable(self, one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
        """Join two namespaces: each end is the namespace, the interface there, and its address with the prefix."""
        run("ip", "link", "add", one[1], "type", "veth", "peer", "name", other[1])
        for space, interface, address in (one, other):
            if space:
                run("ip", "link", "set", interface, "netns", space)
            self.inside(space, "ip", "addr", "add", address, "dev", interface)
            self.inside(space, "ip", "link", "set", interface, "up")

    def route(self, name: str, *route: str) -> None:
        """Add a route in a namespace."""
        self.inside(name, "ip", "route", "add", *route)

    def forward(self, name: str) -> None:
        """Let a namespace pass packets on."""
        self.inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def trusting(self, name: str) -> None:
        """Let packets come in by another way than answers go out."""
        for one in ("all", "default"):
            self.inside(name, "sysctl", "-qw", f"net.ipv4.conf.{one}.rp_filter=0")

    def answers_only(self, name: str, interface: str, ports: list[int]) -> None:
        """Let a router drop what comes in by an interface, but for TCP from these ports: what was asked for."""
        for port in ports:
            rule = ("ip", "rule", "add", "pref", "100", "iif", interface, "ipproto", "tcp", "sport", str(port))
            self.inside(name, *rule, "lookup", "main")
        self.inside(name, "ip", "rule", "add", "pref", "200", "iif", interface, "blackhole")

    def counted(self, name: str, interface: str) -> tuple[int, int]:
        """Return how many bytes came in by an interface, and how many went out."""
        read = [f"/sys/class/net/{interface}/statistics/{one}_bytes" for one in ("rx", "tx")]
        came, went = self.inside(name, "cat", *read).split()
        return int(came), int(went)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


@contextlib.contextmanager
def beside(space: str, log, *arguments: object) -> Iterator[subprocess.Popen]:
    """Run one of the programs of `forwarding` in a namespace."""
    command = ["ip", "netns", "exec", space, sys.executable, "-m", "tests.node.process.forwarding"]
    process = subprocess.Popen([*command, *map(str, arguments)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def reaches(space: str, host: str, port: int) -> str:
    """Return what comes of dialling a place from a namespace: "" if it answers, else the error's name."""
    program = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()\n"
        "except OSError as error: print(type(error).__name__, error)"
    )
    return run("ip", "netns", "exec", space, sys.executable, "-c", program, host, str(port)).strip()
