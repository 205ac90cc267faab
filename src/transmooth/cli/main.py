"""The command line: arguments -> one call.  Heavy imports happen inside the command that needs them.

Results go to standard output, everything else to standard error.  The exit status is 0 when a command did what it was
asked, 1 after a fault that could be expected (one line says which), 2 after wrong usage, 130 after Ctrl-C.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from transmooth import __version__
from transmooth.cli import attack, certify, job, leaderboard, logs, machine, predict, publishing, training
from transmooth.cli.options import Command, joined, print_anything, warn_in_one_line
from transmooth.runtime import memory


class Commands(TyperGroup):
    """The commands, with lists of numbers that may have spaces between."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        return super().parse_args(ctx, joined(args))


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

# In the order of the story, which is the order of `transmooth --help`.
COMMANDS: dict[str, Callable[..., None]] = {
    "train": training.train,
    "finetune": training.finetune,
    "certify": certify.certify,
    "predict": predict.predict,
    "attack": attack.attack,
    "accuracy": logs.accuracy,
    "report": logs.report,
    "merge": logs.merge,
    "publish": publishing.publish,
    "audit": logs.audit,
    "compare": logs.compare,
    "import-log": logs.import_log,
    "export-log": logs.export_log,
    "models": machine.models,
    "datasets": machine.datasets,
    "doctor": machine.doctor,
}
for name, command in COMMANDS.items():
    app.command(name, cls=Command)(command)
app.add_typer(leaderboard.app, name="leaderboard")
app.add_typer(job.app, name="job")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"transmooth {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Transfer learning for certified robustness by randomized smoothing.

    A network is trained on a mixture of clean and noisy images, finetuned on clean images of your own task, and
    certified: for each image you get a radius within which, with probability 1 - alpha, no l2 perturbation changes the
    smoothed prediction.

    \b
    From a folder of pictures to a certified model:
      transmooth train many/ --sigmas 0,0.25,0.5 --size 16 --out base/
      transmooth finetune pictures/ --from base/ --out model/
      transmooth certify model/ model/data --sigma 0.25 --n 1000 --out records.parquet
      transmooth accuracy records.parquet

    \b
    Any model, and results of any tool:
      certify, predict and attack take any model; accuracy, audit and compare any log.
    The tables and figures of the paper:
      snakemake, in a checkout; `transmooth doctor` shows what can run here.

    Exit status: 0 done, 1 a fault, named in one line, 2 wrong usage, 130 stopped by Ctrl-C.
    """
    memory.keep()
    print_anything()
    warn_in_one_line()
