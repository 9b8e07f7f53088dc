"""The console script, outside the package so that Ctrl-C is quiet while the package and JAX are being imported."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from fedmeta.cli import main as run
    except KeyboardInterrupt:
        print("fedmeta: interrupted", file=sys.stderr)
        sys.exit(130)
    run()
