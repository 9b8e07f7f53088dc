"""What runs behind a wall in the tests: it tries what it should not be able to do, and says what came out."""

import json
import os
import resource
import socket
import sys


def attempts(order):
    """Try to open paths, to connect, to write, and to get back what was taken; write the results as JSON."""
    found = {
        "uid": os.getresuid(),
        "gid": os.getresgid(),
        "groups": os.getgroups(),
        "umask": os.umask(0o077),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "opened": [path for path in order.get("paths", ()) if _works(lambda path=path: open(path, "rb").close())],
        "listed": [path for path in order.get("paths", ()) if _works(lambda path=path: os.listdir(path))],
        "written": [path for path in order.get("write", ()) if _works(lambda path=path: open(path, "wb").close())],
        "connected": {str(address): _reach(address) for address in order.get("connect", ())},
        "asked": {path: _asks(path) for path in order.get("ask", ())},
        "pair": _works(lambda: [one.close() for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)]),
        "root again": _works(lambda: os.setuid(0)),
        "signalled": _works(lambda: os.kill(order["parent"], 0)) if "parent" in order else None,
        "memory": _works(lambda: open(f"/proc/{order['parent']}/mem", "rb").close()) if "parent" in order else None,
        "interfaces": _up(),
    }
    json.dump(found, sys.stdout)
    return 0


def _works(attempt):
    try:
        attempt()
    except OSError:
        return False
    return True


def _reach(address):
    try:
        socket.create_connection(tuple(address), 1).close()
    except OSError as error:
        return error.errno
    return "connected"


def _asks(path):
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(path)
    except OSError as error:
        return error.errno
    return "connected"


def _up():
    from fedmeta.node.process.walls import interfaces

    return [name for name, works in interfaces() if works]


def exits(code):
    """End with a code."""
    return code
