"""A unit for systemd that runs a node, with what the service manager can take away from it taken away."""

import sys
from pathlib import Path

FILE = "fedmeta-node.service"
"""The name of the unit, in the node's folder."""

_TEXT = """# Copy this file to /etc/systemd/system, then: systemctl daemon-reload && systemctl enable --now fedmeta-node
# It starts as root, so that gate, core and trainer get users of their own ([users] in node.toml); with User= here, all
# three run under that one.
[Unit]
Description=A member's node of a federation
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={program} node start --folder {folder}
Restart=on-failure
# 3: the core must not go on before a person has looked.
RestartPreventExitStatus=3
RestartSec=10
TimeoutStopSec=60
KillSignal=SIGTERM
KillMode=mixed
UMask=0077
LimitNOFILE=16384
LimitCORE=0

# Only the node's folder can be written.
ProtectSystem=strict
ReadWritePaths={folder}
{home}PrivateTmp=true
PrivateDevices=true
ProtectClock=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectControlGroups=true
NoNewPrivileges=true
LockPersonality=true
RestrictRealtime=true
RestrictSUIDSGID=true
RemoveIPC=true
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
# AF_NETLINK: to see that the trainer has no network.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
# The trainer gets a network of its own that leads nowhere.
RestrictNamespaces=net user
# To change to other users, to give them their folders, and to take the network away; the processes keep none of it.
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_SYS_ADMIN CAP_KILL
# Not MemoryDenyWriteExecute: compiled programs are made while the node runs.

[Install]
WantedBy=multi-user.target
"""


def text(folder: Path, program: str = "") -> str:
    """Return the unit of the node in a folder.

    Args:
        folder: the node's, absolute.
        program: what is run, absolute; the `fedmeta` beside this Python by default.
    """
    program = program or str(Path(sys.executable).with_name("fedmeta"))
    home = any(folder.is_relative_to(one) for one in ("/home", "/root", "/run/user"))
    return _TEXT.format(
        program=_quoted(program), folder=_quoted(str(folder)), home="" if home else "ProtectHome=read-only\n"
    )


def _quoted(word: str) -> str:
    """Return a path as systemd reads it: percent signs are doubled, and spaces need quotes."""
    word = word.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{word}"' if " " in word or '"' in word else word
