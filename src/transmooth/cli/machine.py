"""What there is to work with: datasets, models and doctor."""

import json
from pathlib import Path
from typing import Annotated

import typer

from transmooth.cli.options import AsJson, faults_in_one_line


def datasets(as_json: AsJson = False) -> None:
    """List the datasets of the checkout in this folder.

    Shows which are there, and how to get the missing ones.

    \b
    Examples:
      transmooth datasets
      transmooth datasets --json
    """
    with faults_in_one_line():
        from transmooth.cli import doctor

        found = doctor.datasets(Path.cwd())
    if as_json:
        return typer.echo(json.dumps(found))
    for each in found:
        typer.echo(f"{each['name']:<16} {each['size']:>4} px  {each['kind']:<12} {each['state']}")
        if each["fetch"]:
            typer.echo(f"{'':<25} {each['fetch']}")
    return None


def models(
    folder: Annotated[Path, typer.Argument(help="Where to look; a checkout has networks of its studies there.")] = Path(
        "models"
    ),
    as_json: AsJson = False,
) -> None:
    """List the checkpoints below a folder.

    Each by the path that certify takes: what it answers, how much of its test images is right, and the noise that it
    learned at. One whose weights are not those that its card names ends with status 1.

    \b
    Examples:
      transmooth models .
      transmooth models model --json
    """
    with faults_in_one_line():
        from transmooth.checkpoint import inventory

        found = inventory.checkpoints(folder)
    if as_json:
        typer.echo(json.dumps([each.__dict__ for each in found]))
    for each in found if not as_json else ():
        sigmas = f", learned at sigma {', '.join(f'{sigma:g}' for sigma in each.sigmas)}" if each.sigmas else ""
        behind = f", behind {each.denoiser}" if each.denoiser else ""
        typer.echo(each.path)
        typer.echo(f"    {each.fault or f'{each.network}, {each.what}{sigmas}{behind}; {each.megabytes:.1f} MB'}")
    raise typer.Exit(int(any(each.fault for each in found)))


def doctor(as_json: AsJson = False) -> None:
    """Tell what this machine can run, and what is missing.

    In a checkout, also which of its studies have all their pictures. The exit status is 1 if a package is missing that
    is not optional.

    \b
    Examples:
      transmooth doctor
      transmooth doctor --json
    """
    with faults_in_one_line():
        from transmooth.cli import doctor

        packages, processors = doctor.packages(), doctor.processors()
        checkout = (Path.cwd() / "params" / "datasets.yaml").is_file()
        studies = doctor.studies(Path.cwd()) if checkout else {}
    missing = {extra: [name for name, found in there.items() if found is None] for extra, there in packages.items()}
    complete = not any(names for extra, names in missing.items() if extra not in doctor.OPTIONAL)
    if as_json:
        typer.echo(json.dumps({"packages": packages, **processors, "studies": studies, "complete": complete}))
        raise typer.Exit(int(not complete))

    gpus = ", ".join(f"{gpu['name']} ({gpu['memory_gib']} GiB)" for gpu in processors["gpus"])
    typer.echo(
        f"Python {processors['python']}, torch {packages['']['torch']}, {processors['cores']} cores, "
        f"{processors['memory_gib']} GiB of memory, {processors['free_disk_gib']} GiB of disk free here, "
        f"{gpus or 'no GPU: networks run on the cores'}"
    )
    for extra, names in missing.items():
        what = f".[{extra}]" if extra else "."
        absent = "not installed (optional)" if extra in doctor.OPTIONAL else "missing"
        how = f"in a checkout, pip install -e '{what}' brings them"
        state = f"{absent}: {', '.join(names)}; {how}" if names else "complete"
        uses = {"": "certify, predict, logs", "workflow": "train, finetune, studies"}.get(extra, extra)
        typer.echo(f"{uses:<26} {state}")
    for study, lacking in studies.items():
        state = f"missing: {', '.join(lacking)}; see transmooth datasets" if lacking else "can run"
        typer.echo(f"{f'snakemake --config study={study}':<32} {state}")
    if not checkout:
        typer.echo("no studies: this folder is no checkout of transmooth (it has no params/datasets.yaml)")
    raise typer.Exit(int(not complete))
