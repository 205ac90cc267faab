"""Each training image has one sigma, chosen once by what the network that the stage starts from answers under noise.

Wang et al., "Pretrain-to-Finetune Adversarial Training via Sample-wise Randomized Smoothing" (2021), say no more in
public than that the model's outputs choose.  Here

    k_i = argmax_k  σ_k Φ⁻¹( LCB( P[f(x_i + σ_k δ) = y_i] ) ),     σ of x_i = the one before σ_k_i in S, or the first

from n0 noisy copies, at each σ, of the image as it is before augmentation.  It is one step back because the network has
learned these images, which look more robust to it than test images do.  So the largest σ of S is not trained with,
unless S ends one step after the largest σ that is certified.  Labels may choose here: nothing is certified.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from transmooth.data.loader import Split
from transmooth.smoothing.bounds import Floats
from transmooth.smoothing.choice import choose as choose_own
from transmooth.smoothing.engine import EXAMPLES, prepare_each
from transmooth.smoothing.sampler import Sampler
from transmooth.specs import TrainSpec

ALPHA = 0.001  # of the lower bound


def choose(spec: TrainSpec, split: Split, begin: Callable[[], nn.Module], device: torch.device, share: slice) -> Floats:
    """Return σ_i, float64 [len(split)], of the images of this process's share, 0 of the others."""
    assert spec.n0 is not None
    network = begin().to(device).eval()
    some = split.batch(range(min(EXAMPLES, len(split))))[0]
    planned = len(split) * len(spec.sigmas) * spec.n0
    engines = prepare_each(network, some, spec.sigmas, planned, engine="eager")
    counts = {
        sigma: Sampler(engine, lambda index: split[index][0], sigma, spec.seed) for sigma, engine in engines.items()
    }
    mine = np.arange(len(split))[share]
    best = choose_own(counts, mine, spec.n0, ALPHA, split.labels[mine])
    sigmas = np.array(sorted(spec.sigmas))
    chosen = np.zeros(len(split))
    chosen[mine] = sigmas[np.maximum(np.searchsorted(sigmas, best) - 1, 0)]
    return chosen
