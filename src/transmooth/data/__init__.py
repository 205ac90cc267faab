"""Images: where they come from, how they are prepared once, how they are read many times.

`prepare` turns a source (torchvision, a folder of images, or one of three sets that need no download) into a folder of
uint8 arrays with a manifest whose hash pins it; `open_split` maps such a folder and gives batches of floats in [0, 1];
`batch_indices` says which images are in the batch of a step, and `augment` changes them at random.
"""

from .augment import AUGMENTATIONS, augment
from .loader import Split, open_split, read_manifest
from .order import batch_indices, epoch_order
from .prepare import Manifest, prepare, verify
from .sources import SOURCES, Images, Source, open_source

__all__ = [
    "AUGMENTATIONS",
    "SOURCES",
    "Images",
    "Manifest",
    "Source",
    "Split",
    "augment",
    "batch_indices",
    "epoch_order",
    "open_source",
    "open_split",
    "prepare",
    "read_manifest",
    "verify",
]
