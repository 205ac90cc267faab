import atexit
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from logging.handlers import QueueHandler
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.enums import Quietness

from transmooth import mirror, params
from transmooth.plan import Plan, Run
from transmooth.runtime import fork_client, gpus, shutdown

ROOT = Path(workflow.basedir)


def plan():
    """The study's plan; bad params end Snakemake here, with one line for each fault and nothing started."""
    if unknown := set(config) - {"study"}:
        raise WorkflowError(f"--config takes study=NAME alone, found {', '.join(sorted(unknown))}")
    try:
        made = Plan(params.load(str(config["study"]), ROOT))
        params.check_logs(made.params, ROOT)
        return made, params.check_sources(made.params, made.datasets, ROOT)
    except params.ParamsError as error:
        raise WorkflowError(str(error))


PLAN, TO_FETCH = plan()
if TO_FETCH:
    logger.warning("\n".join(TO_FETCH))
STUDY = PLAN.study


def prepared(dataset):
    return f"../../{PLAN.prepared(dataset)}"


FOLDER = ROOT / "results" / PLAN.params.name  # at its very end Snakemake is no longer in it
OUTSIDE = [prepared(dataset) for dataset in PLAN.datasets]


def hold_folder():
    """Keep this folder, and put it in order where no other Snakemake is at work in it.

    Every Snakemake that lives shares a lock which the system frees: who gets it alone knows that the others are dead.
    Locks that they left are removed, for which Snakemake would want `--unlock`, and what DVC checked out is taken.
    """
    Path(".snakemake").mkdir(exist_ok=True)
    alive = open(".snakemake/alive", "w")
    with suppress(BlockingIOError):
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for lock in Path(".snakemake/locks").glob("*.lock"):
            lock.unlink()
        if stay := mirror.take(FOLDER, FOLDER / "dvc", PLAN.outputs, OUTSIDE, stored):
            logger.warning(
                f"{len(stay)} results are in no DVC cache and stay, though results/{PLAN.params.name}/dvc has others "
                f"({stay[0]}{', …' if len(stay) > 1 else ''}); remove them to have those."
            )
    fcntl.flock(alive, fcntl.LOCK_SH)
    return alive


def stored(path):
    """Whether DVC's cache has this content."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    return (dvc_cache() / "files" / "md5" / digest[:2] / digest[2:]).exists()


@cache
def dvc_cache():
    """Where it is, by all of DVC's configuration; without DVC it is nowhere."""
    done = subprocess.run(["dvc", "cache", "dir"], cwd=ROOT, capture_output=True, text=True)
    return Path(done.stdout.strip() or os.devnull)


def give_to_dvc():
    """Mirror the study for DVC, however its run ended; where that fails DVC must not version an old mirror."""
    if not workflow.dryrun:
        try:
            mirror.give(FOLDER, FOLDER / "dvc", PLAN.outputs, OUTSIDE)
        except OSError as error:
            print(f"results/{PLAN.params.name}/dvc: not up to date: {error}", file=sys.stderr, flush=True)
            os._exit(1)


if workflow.is_main_process:
    ALIVE = hold_folder()
    atexit.register(give_to_dvc)


@cache
def code(*patterns):
    """A hash of the sources that a job's result depends on, as a param.

    As an input they would be compared by time first, and git and DVC restore files with arbitrary times.  After a
    change that cannot alter results: `snakemake --touch`.
    """
    folder = ROOT / "src" / "transmooth"
    sources = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def train_code(objective):
    """Of a training; a new objective is a new file and re-runs nothing."""
    return code(
        "training/loop.py",
        "training/schedule.py",
        "training/save_points.py",
        "training/progress.py",
        "noise.py",
        "checkpoint/weights.py",
        "checkpoint/resume.py",
        "models/*.py",
        "objectives/__init__.py",
        f"objectives/{objective}.py",
        "data/augment.py",
        "data/loader.py",
        "data/order.py",
    )


def run_of(wildcards):
    return Run(wildcards.pretrain, wildcards.dataset, wildcards.finetune, int(wildcards.seed))


def start(wildcards):
    """The pretrained weights, or nothing for a network that is trained from scratch."""
    if PLAN.pretrained(run_of(wildcards)):
        return f"pretrain/{wildcards.pretrain}/{wildcards.seed}/model.safetensors"
    return []


def records_of(report):
    return [f"certify/{run.path}/records.parquet" for run in PLAN.runs_of(report)]


def cards_of(report):
    return [f"finetune/{run.path}/model.json" for run in PLAN.runs_of(report)]


def networks_of(gap):
    """The weights before and after each finetuning."""
    runs = PLAN.runs_of(gap)
    before = dict.fromkeys(f"pretrain/{run.pretrain}/{run.seed}" for run in runs)
    return [f"{folder}/model.safetensors" for folder in [*before, *(f"finetune/{run.path}" for run in runs)]]


def launch(processes):
    """What starts a job's program (`params.program`): nothing for one process, `accelerate launch` for several.

    A function of `resources`, because Snakemake leaves such params out of what re-runs a job: whether a machine has
    GPUs, and over how many nodes a profile spreads the processes, changes no result.
    """

    def command(wildcards, resources):
        accelerate = "../../workflow/accelerate"
        if (nodes := resources.get("nodes", 1)) > 1:
            return f"sh {accelerate}/nodes.sh {nodes} {processes}"
        lease = f"python -m transmooth.runtime.gpus {processes}" if GPUS else ""
        if processes == 1:
            return lease
        return (
            f"{lease} accelerate launch --config_file {accelerate}/local.yaml --num_processes {processes} --no_python"
        )

    return command


GPUS = gpus.present()
# None where jobs go to a cluster.
CORES = workflow.global_resources["_cores"].value
if CORES and "gpu" not in workflow.global_resources:
    # Without GPUs the cores are the only limit.
    workflow.global_resources["gpu"] = len(GPUS) or CORES


def check_fetched():
    """A plan can be looked at without the pictures that users must fetch; no job starts without them."""
    if TO_FETCH:
        raise WorkflowError("\n".join(TO_FETCH))


def start_warm_server():
    """Import torch once for all jobs of this process here (see transmooth.cli.fork_server); the server ends with it."""
    folder = tempfile.mkdtemp(prefix="transmooth-")
    atexit.register(shutil.rmtree, folder)
    end_jobs_with_this_process(Path(folder, "run"))
    address = Path(folder, "warm")
    subprocess.Popen([sys.executable, "-m", "transmooth.cli.fork_server", address], stdin=subprocess.PIPE)
    os.environ[fork_client.ADDRESS] = str(address)


def end_jobs_with_this_process(lock):
    """Jobs save and end when this process dies or is told to end; Snakemake alone would wait until they are done."""
    run = shutdown.hold_run_lock(lock)

    def tell_jobs(then):
        def handler(*signal_and_frame):
            run.close()
            then(*signal_and_frame)

        return handler

    for number in (signal.SIGTERM, signal.SIGINT):
        if callable(then := signal.getsignal(number)):  # a shell has its background processes ignore Ctrl-C
            signal.signal(number, tell_jobs(then))


if workflow.remote_exec and "SLURM_STEP_ID" not in os.environ:
    # On a node of a cluster, where hooks do not run: once for all jobs of an allocation, each of which is a step with a
    # Snakemake of its own.  The address that Slurm copied from where it was submitted is of a server that is elsewhere.
    start_warm_server()


def forget_finished_trainings():
    """Remove the states that would bring a training's outputs back: Snakemake knows now that it is done."""
    if not any(Path(".snakemake/incomplete").iterdir()):
        for folder in map(Path, PLAN.trainings):
            if (folder / "model.json").is_file():
                (folder / "resume.pt").unlink(missing_ok=True)


def show_results():
    if Quietness.ALL in (workflow.output_settings.quiet or ()):
        return
    for handler in logger.handlers:
        if isinstance(handler, QueueHandler):
            handler.queue.join()  # the account of the run comes before its tables
    from transmooth.report.terminal import shared_images, show

    show(Path.cwd(), [*PLAN.tables, *PLAN.gaps], [*PLAN.figures, *PLAN.gaps])
    for manifest in filter(Path.is_file, (ROOT / PLAN.prepared(dataset) for dataset in PLAN.datasets)):
        if told := shared_images(manifest):
            print(f"note: {told}")


wildcard_constraints:
    home="data|external",
    pretrain="[a-z0-9_]+",
    dataset="[a-z0-9_]+",
    finetune="[a-z0-9_]+",
    seed=r"\d+",
    table="|".join(PLAN.tables) or "none",
    figure="|".join(PLAN.figures) or "none",
    gap="|".join(PLAN.gaps) or "none",


scattergather:
    shards=STUDY.certify.shards,


localrules:
    all,
    data,
