"""`fedmeta node pull`: the latest final model, for `fedmeta adapt` and `predict`."""

from pathlib import Path

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.node.options import in_folder


@click.command(short_help="Fetch the latest final model, for fedmeta adapt and predict.")
@click.option("--recipe", metavar="DIGEST", help="Of which recipe.  [default: the one that is approved here]")
@click.option(
    "--out",
    metavar="RUN",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that it is written to: a new one, or one that was pulled before.",
)
@in_folder
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def pull(recipe: str | None, out: Path, folder: Path, as_json: bool) -> None:
    """Fetch the latest final model of a recipe, and write it as the folder RUN.

    Which model that is, the ledger says: its blocks are executed here, and the model is held against its digest. It is
    taken from this node's own disk if it is there, else from super nodes. A running node is not disturbed.

    Exit code 4 where no round of the recipe is final yet, 1 where nobody who has it can be reached or the ledger has no
    such recipe, 2 where it is unclear which recipe is meant.

    \b
    Examples:
      fedmeta node pull --out latest
      fedmeta adapt latest --examples mine.csv --out mine.safetensors
    """
    from fedmeta.cli.ledger.options import digest_of
    from fedmeta.cli.start import start
    from fedmeta.node.errors import NothingFinal
    from fedmeta.node.member import config as configs

    digest = None if recipe is None else digest_of(recipe, "--recipe")
    config = configs.read(folder)
    start()
    from fedmeta.node.process import pulling

    try:
        fetched = pulling.fetch_latest(config, digest)
        rounds = pulling.save_run(fetched, config.ledger.genesis, out)
    except NothingFinal as error:
        click.echo(f"fedmeta: {error}", err=True)
        click.get_current_context().exit(NOTHING_FINAL)
    if as_json:
        found = {"recipe": fetched.recipe, "model": fetched.model, "rounds": rounds, "height": fetched.height}
        show.write_json({**found, "source": fetched.source, "run": str(out)})
        return
    show.write(
        f"Model   {fetched.model.hex()}, of {rounds:,} final rounds, the latest at height {fetched.height:,}",
        f"From    {fetched.source}",
        f"Run     {out}",
        f"\nNext: fedmeta adapt {out} --examples FILE, or fedmeta predict {out} --examples FILE",
    )


NOTHING_FINAL = 4
"""The exit code where no round is final yet: to try again later is of use."""
