"""The program `cometbft`: where it is, and whether its version is one that this engine was tried with."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from fedmeta.govern.errors import EngineError

VARIABLE = "FEDMETA_COMETBFT"
"""The environment variable that names the program."""
SERIES = ("0.38", "0.39", "0.40")
"""Lines of versions with which the tests have run: 0.40.0, built from Go modules, says of itself that it is 0.39.0.
`make cometbft` builds the one in tools/cometbft/go.mod."""
CHECKOUT = Path(__file__).parents[5]
"""Where `build/bin` lies, if this file is in a checkout."""

_VERSION = re.compile(r"v?(\d+\.\d+)\.\d+\S*", re.ASCII)


def find_binary(named: Path | None = None) -> Path:
    """Return the program: `named`, or by FEDMETA_COMETBFT, or in build/bin of a checkout, or on the PATH.

    Raises:
        EngineError: there is none, or its version is none that this engine was tried with.
    """
    for path, source in ((named, "--cometbft"), (os.environ.get(VARIABLE), VARIABLE)):
        if path:
            return _checked(Path(path), f"{source} names {path}")
    built = CHECKOUT / "build" / "bin" / "cometbft"
    if built.is_file():
        return _checked(built, str(built))
    if found := shutil.which("cometbft"):
        return _checked(Path(found), found)
    raise EngineError(
        f"no program cometbft was found: run `make cometbft` in a checkout, which needs Go, or name one by {VARIABLE} "
        "or --cometbft PATH"
    )


def version_of(path: Path) -> str:
    """Return the version of a program `cometbft`, such as "0.38.26"; raises `EngineError`."""
    try:
        done = subprocess.run([path, "version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{path} does not run: {error}") from error
    if not (found := _VERSION.fullmatch(done.stdout.strip())):
        raise EngineError(f"{path} is not CometBFT: it says its version is {done.stdout.strip()[:80]!r}")
    return found[0].removeprefix("v")


def _checked(path: Path, what: str) -> Path:
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise EngineError(f"{what}, which is no program")
    version = version_of(path)
    if not version.startswith(tuple(f"{one}." for one in SERIES)):
        raise EngineError(f"{what}, which is CometBFT {version}: this engine was tried with {', '.join(SERIES)}")
    return path.absolute()
