"""transmooth: every table and figure of a study, from images to numbers.

snakemake                          the smoke study
snakemake --config study=paper     another one: params/studies/paper.yaml
snakemake table1                   one table and what it needs
snakemake -n                       what would run, and why
"""

import os
import sys
from logging.handlers import QueueHandler
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.enums import Quietness
from snakemake.utils import min_version

min_version("9.20")

# This checkout's sources win over an installed copy (`dvc exp run --temp` must run its own code), and its interpreter's
# commands over others, so that no environment has to be activated.  What a cluster's modules put on the path stays.
SRC = f"{workflow.basedir}/src"
sys.path.insert(0, SRC)
for name in [name for name in sys.modules if name.split(".")[0] == "transmooth"]:
    del sys.modules[name]  # loaded with the terminal's logger, before this: those of the installed copy
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [SRC, os.environ.get("PYTHONPATH")])),
    PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
)

# Planning takes seconds, in which Ctrl-C would show where in the code it came.
from transmooth.runtime import shutdown

if workflow.is_main_process:
    shutdown.end_on_ctrl_c()

config.setdefault("study", "smoke")
# Before `workdir`, which makes its folder.
from transmooth.params.load import studies

if config["study"] not in (known := studies(Path(workflow.basedir))):
    raise WorkflowError(f"params/studies/{config['study']}.yaml: no such study; there is {', '.join(known)}")


# A study is its own working directory: outputs, logs, lock, and the provenance (.snakemake/metadata) that DVC keeps
# with them.  Paths in rules are relative to it.
workdir: f"{workflow.basedir}/results/{config['study']}"


pathvars:
    params="../../params",
    workflow="../../workflow",


include: "workflow/rules/common.smk"
include: "workflow/rules/processes.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        expand("tables/{table}.md", table=[*PLAN.tables, *PLAN.shifts]),
        expand("figures/{figure}.svg", figure=[*PLAN.figures, *PLAN.courses]),
        "metrics/training.csv",
        "report.html",


onstart:
    if TO_FETCH:  # a plan can be looked at without the pictures that users must fetch; no job starts without them
        raise WorkflowError("\n".join(TO_FETCH))
    session.start_fork_server()


onsuccess:
    session.forget_finished_trainings(Path("train", path) for path in PLAN.runs)
    if Quietness.ALL not in (workflow.output_settings.quiet or ()):
        for handler in logger.handlers:
            if isinstance(handler, QueueHandler):
                handler.queue.join()  # the account of the run comes before its tables
        show_results(PLAN, ROOT)
