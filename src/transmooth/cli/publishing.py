"""Publish a checkpoint to a hub of models."""

from pathlib import Path
from typing import Annotated

import typer

from transmooth.cli.options import faults_in_one_line


def publish(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub, made if need be.")],
    records: Annotated[
        list[Path] | None, typer.Option(help="Records of its certification, for the model card; one or more times.")
    ] = None,
    license: Annotated[str | None, typer.Option(metavar="ID", help="The hub's name of a licence, such as mit.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="The hub's name of a data set it learned from.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a repository that only its owner sees.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the folder that would be uploaded; no network.")] = None,
) -> None:
    """Publish a checkpoint to the Hugging Face Hub, with its card.

    The card (README.md) tells what the network is, how it was trained, and what the records certify. Where timm can
    build the network, timm loads it from there too. Log in with `hf auth login`, or set HF_TOKEN. certify, predict
    and finetune --from take what is printed, or hf-hub:OWNER/NAME.

    \b
    Examples:
      transmooth publish model/ somebody/digits --records records.parquet --out folder/
      transmooth publish model/ somebody/digits --records records.parquet --license mit --private
    """
    with faults_in_one_line():
        from transmooth.publishing import folder, model_card

        origin = model_card.Origin(license, tuple(dataset or ()))
        if out is None:
            typer.echo(folder.publish(checkpoint, repository, records or [], origin, private=private))
        else:
            folder.write(checkpoint, repository, out, records or [], origin)
            typer.echo(out)
