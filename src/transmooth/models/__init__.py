"""Base classifiers: images in [0, 1] -> logits, normalisation inside."""

from transmooth.models.build import Network, build, reset_head
from transmooth.models.trainable import TRAINABLE, set_train_mode

__all__ = ["TRAINABLE", "Network", "build", "reset_head", "set_train_mode"]
