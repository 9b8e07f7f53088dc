"""The command line: `fedmeta COMMAND`; one file per command group."""

import importlib
import os
import sys
import warnings
from typing import Any, NoReturn

import click

from fedmeta.cli.start import start
from fedmeta.errors import FedmetaError, Interrupted, UnknownName, UsageError

COMMANDS = {
    "train": "fedmeta.cli.train:train",
    "resume": "fedmeta.cli.train:resume",
    "evaluate": "fedmeta.cli.evaluate:evaluate",
    "adapt": "fedmeta.cli.adapt:adapt",
    "predict": "fedmeta.cli.predict:predict",
    "compare": "fedmeta.cli.compare:compare",
    "study": "fedmeta.cli.study:study",
    "data": "fedmeta.cli.data:data",
    "ledger": "fedmeta.cli.ledger:ledger",
    "node": "fedmeta.cli.node:node",
    "consortium": "fedmeta.cli.consortium:consortium",
}

SUMMARIES = {
    "train": "Train an algorithm and test it on unseen clients.",
    "resume": "Continue a run that was interrupted.",
    "evaluate": "Test a run on unseen clients.",
    "adapt": "Adapt a run to a client's own examples.",
    "predict": "Predict with a client's model, or with that of a run.",
    "compare": "Train several algorithms on the same clients.",
    "study": "Run a grid of experiments that a file declares, and report it.",
    "data": "List data sets, describe one, fetch one, or draw one.",
    "ledger": "Keep a federation's ledger: stake, elections, rounds, rewards.",
    "node": "Run a member's node: train on own data, answer on the ledger.",
    "consortium": "Show what four hospitals gain by training together.",
}
"""What `fedmeta --help` says of each, so that it need not import them."""

WITHOUT_JAX = ("ledger", "node")
"""Commands that compute nothing, and so do not wait for JAX; those of `node` that do set it up themselves."""


class _Commands(click.Group):
    """Commands that are imported when they are called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        return getattr(importlib.import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in COMMANDS])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownName("command", args[0], COMMANDS)
        if args and args[0] in COMMANDS and args[0] not in WITHOUT_JAX:
            start()
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fedmeta")
def app() -> None:
    """Federated meta-learning: a good model for each client, from a handful of examples.

    \b
    Example:
      fedmeta compare --data digits --out runs/digits
    """


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 when it did what was asked, 2 for misuse, 1 for data or a run that fails.

    An error is one line on standard error. An interrupt exits with 130, as shells expect.
    """
    warnings.showwarning = _show_warning
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _check_text(arguments)
        code = app.main(arguments, prog_name="fedmeta", standalone_mode=False, obj=tuple(arguments))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except click.ClickException as error:
        code = _fail(error.format_message(), 2)
    except UsageError as error:
        code = _fail(str(error), 2)
    except Interrupted as error:
        code = _fail(str(error), 130)
    except FedmetaError as error:
        code = _fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted", 130)
    except BrokenPipeError:
        # Whoever reads the output has closed it.
        sys.stderr.close()
        code = 0
    except OSError as error:
        code = _fail(f"{error.filename or 'a file'}: {error.strerror or error}", 1)
    _leave(code or 0)


def _check_text(arguments: list[str]) -> None:
    """Raise a UsageError for an argument that no file of a run, and no table, could hold."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            said = os.fsencode(argument).decode(errors="backslashreplace")
            raise UsageError(f"the argument {said} is not UTF-8: give names and paths in UTF-8") from None


def _leave(code: int) -> NoReturn:
    if code and "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized():
        # On its way out JAX would wait for the other processes, which may wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    click.echo("fedmeta: " + " ".join(message.split()), err=True)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"fedmeta: warning: {message}", err=True)
