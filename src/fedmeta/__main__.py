"""`python -m fedmeta` is the command line."""

from fedmeta.cli import main

main()
