"""Show a training in TensorBoard, W&B or MLflow while it runs, through Accelerate."""

from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator

from transmooth.params.values import Tracker
from transmooth.specs import TrainSpec

PROJECT = "transmooth"
# The keyword that names a run; in TensorBoard it has the name of its folder.
NAMED_BY: Mapping[Tracker, str | None] = {"tensorboard": None, "wandb": "name", "mlflow": "run_name"}


def start_tracker(accelerator: Accelerator, tracker: Tracker | None, spec: TrainSpec, out: Path) -> None:
    """Start the tracker that the accelerator was made with, and give it the training's spec.

    A run is named by its path in the study, or by the folder `out`.  TensorBoard writes to `out/transmooth`, the others
    where their own variables of the environment say.
    """
    if tracker is None:
        return
    name, key = spec.run.path if spec.run else out.name, NAMED_BY[tracker]
    accelerator.init_trackers(PROJECT, {"spec": spec.text}, {tracker: {key: name}} if key else {})
