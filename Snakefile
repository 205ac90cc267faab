"""transmooth: every table and figure of a study, from images to numbers.

snakemake                          the smoke study
snakemake --config study=paper     another one: params/paper.yaml
snakemake table1                   one table and what it needs
snakemake -n                       what would run, and why
"""

import os
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.20")

# This checkout's sources win over an installed copy (`dvc exp run --temp` must run its own code), and its interpreter's
# commands over others, so that no environment has to be activated.
SRC = f"{workflow.basedir}/src"
sys.path.insert(0, SRC)
for name in [name for name in sys.modules if name.split(".")[0] == "transmooth"]:
    del sys.modules[name]  # loaded with the terminal's logger, before this: those of the installed copy
os.environ.update(
    PYTHONPATH=SRC,
    PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
)

config.setdefault("study", "smoke")
# Before `workdir`, which makes its folder.
from transmooth.params import studies

if config["study"] not in (known := studies(f"{workflow.basedir}/params")):
    raise WorkflowError(f"params/{config['study']}.yaml: no such study; there is {', '.join(known)}")


# A study is its own working directory: outputs, logs, lock, and the provenance (.snakemake/metadata) that DVC keeps
# with them.  Paths in rules are relative to it.
workdir: f"{workflow.basedir}/results/{config['study']}"


pathvars:
    params="../../params",
    workflow="../../workflow",


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/certify.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        expand("tables/{table}.md", table=[*PLAN.tables, *PLAN.gaps]),
        expand("figures/{figure}.svg", figure=PLAN.figures),
        "metrics/training.csv",
        "report.html",


onstart:
    check_fetched()
    start_warm_server()


onsuccess:
    forget_finished_trainings()
    show_results()
