"""Write the table of docs/models.md from the cards and records of the results: python docs/models.py [RESULTS]"""

import re
import sys
from pathlib import Path

from transmooth import files
from transmooth.checkpoint.card import read_card
from transmooth.params.load import load
from transmooth.plan import Plan, Run
from transmooth.report.accuracy import read_files
from transmooth.report.tables import markdown_table
from transmooth.smoothing.bounds import share_interval

PAGE = Path(__file__).with_name("models.md")
PART = re.compile(r"(<!-- from here .*? -->\n).*?(<!-- up to here -->)", re.DOTALL)
ROOT = Path(__file__).parents[1]
# The stages of the runs that are shown: from mixed noise, then finetuned without noise or with a little.
SHOWN = ["mixed@upstream"], ["mixed@upstream", "clean@downstream"], ["mixed@upstream", "low_noise@downstream"]
AT = [(0.25, 0.25), (0.5, 0.5), (1.0, 0.5)]  # sigma, radius


def table(results: Path) -> str:
    """One row for each checkpoint of the studies below `results`."""
    head = ["folder", "norm", "pixels", "trained with σ", "clean", *(f"σ {s:g}, ε {r:g}" for s, r in AT), "SHA-256"]
    rows = []
    for study in ("smoke", "desk"):
        plan = Plan(load(study, ROOT))
        for stages in SHOWN:
            runs = (run for run in plan.runs.values() if [str(stage) for stage in run.stages] == stages)
            rows += [row(plan, run, results) for run in runs if checkpoint(plan, run, results).is_dir()]
    return markdown_table(head, rows)


def checkpoint(plan: Plan, run: Run, results: Path) -> Path:
    return results / plan.params.name / "train" / run.path


def row(plan: Plan, run: Run, results: Path) -> list[str]:
    card, name = read_card(checkpoint(plan, run, results)), f"{plan.params.name}/train/{run.path}"
    records = [
        results / plan.params.name / plan.records(run, evaluation)
        for evaluated, evaluation in plan.evaluations
        if evaluated == run and plan.evaluation(evaluation).kind == "certify"
    ]
    if records:
        certified = read_files(records, name)
        shares = [(float(certified.accuracy(sigma, [radius])[0, 0]), certified.images) for sigma, radius in AT]
    else:
        shares = []
    clean = card["test"]["correct"] / card["test"]["images"]
    cells = [cell(clean, card["test"]["images"]), *(cell(*share) for share in shares), *["–"] * (len(AT) - len(shares))]
    sigmas = ", ".join(f"{sigma:g}" for sigma in card["spec"]["sigmas"])
    network = card["network"]["norm"], str(card["size"]), sigmas
    return [f"`results/{name}`", *network, *cells, f"`{card['weights_sha256'][:12]}`"]


def cell(share: float, images: int) -> str:
    low, high = share_interval(share * images, images)
    return f"{100 * share:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def page(results: Path) -> str:
    """docs/models.md with the table of these results."""
    return PART.sub(lambda found: f"{found[1]}\n{table(results)}\n\n{found[2]}", PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    files.write_text(PAGE, page(Path(sys.argv[1] if len(sys.argv) > 1 else "results")))
