"""Attack any classifier, by itself or smoothed: from tensors to a data frame.

    frame = attack(model, images, labels, epsilon=0.5)               # the classifier
    frame = attack(model, images, labels, epsilon=0.5, sigma=0.25)   # the smoothed one

A smoothed classifier is climbed as in SmoothAdv (Salman et al., "Provably Robust Deep Learning via Adversarially
Trained Smoothed Classifiers", NeurIPS 2019): log of the mean probability over m noisy copies, whose noise stays the
same in all steps.  What is found is decided by votes on other noise: it counts where another class is answered.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from transmooth.attacks.robust import Settings, Target, attack_batches, base_target, cut
from transmooth.noise import block_key
from transmooth.params.values import AttackLoss, BallNorm
from transmooth.smoothing.bounds import Ints, check_sigma
from transmooth.smoothing.decision import Counts
from transmooth.smoothing.engine import EXAMPLES, Engine, base_classifier, prepare
from transmooth.smoothing.sampler import Sampler
from transmooth.smoothing.smoothed import check_images, check_model, check_votes, class_numbers, vote

# Noise of its own, beside the streams of decision.py and of `smoothed.choose_sigma`: what an attack climbs is not what
# its points are judged by, and neither is what certifies.
CLIMBED, JUDGED = 6, 7
TOGETHER = 256  # noisy images in one step, unless the caller chose a batch


def attack(
    model: nn.Module,
    images: Tensor,
    labels: ArrayLike,
    *,
    epsilon: float,
    norm: BallNorm = "l2",
    steps: int = 100,
    losses: Sequence[AttackLoss] = ("cross_entropy", "margin"),
    restarts: int = 1,
    sigma: float | None = None,
    samples: int = 16,
    n: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    batch: int | None = None,
) -> pd.DataFrame:
    """Attack images [N, 3, H, W] in [0, 1]: one row each, the columns of a record (see `transmooth.records.attacked`).

    model: images [B, 3, H, W] in [0, 1] → logits [B, K], in eval mode.  epsilon: radius of the ball, in the norm.
    AutoPGD in so many steps on each loss, from `restarts` random starts; an image is `robust` if it is right and each
    run leaves it so.  The mean of `robust` is an upper bound of the robust accuracy.

    sigma: attack the smoothed classifier at this noise, with the gradient of `samples` noisy copies; answers are votes
    of n noisy copies, which name another class than the smoothed classifier's with probability ≤ alpha, or abstain
    (see `transmooth.smoothing.smoothed.vote`).  An abstention at the image is not right; one at a point proves nothing.
    batch: how many images together, on which the last bits of gradients depend; else 256, or fewer with noise.

    Raises ValueError for settings that mean nothing, images outside [0, 1], labels that are not classes, and a model
    in train mode, that is random, or whose logits depend on the batch.
    """
    batch = usual_batch(sigma, samples) if batch is None else batch
    settings = Settings(norm, epsilon, steps, tuple(losses), restarts, batch, seed)
    settings.check()
    check_images(images, labels)
    network = model if sigma is None else base_classifier(model, sigma)
    known = dict(enumerate(class_numbers(labels, check_model(network, images[0])).tolist()))
    target = base_target(network)
    if sigma is not None:
        check_smoothed(sigma, samples, n, alpha)
        planned = planned_votes(len(images), n, settings)
        engine = prepare(network, images[:EXAMPLES], sigma, planned)
        target = smoothed_target(network, engine, sigma, samples, n, alpha, seed)
    batches = cut(range(len(images)), batch)
    rows = attack_batches(target, images.__getitem__, known, batches, settings)
    return pd.DataFrame([row for each in rows for row in each])


def usual_batch(sigma: float | None, samples: int) -> int:
    """Return how many images are attacked together unless the caller chose a batch."""
    return TOGETHER if sigma is None else max(1, TOGETHER // max(samples, 1))


def planned_votes(images: int, n: int, settings: Settings) -> int:
    """Return how many votes an attack takes at most: n for each image itself and for what each run makes of it."""
    return images * n * (1 + settings.restarts * len(settings.losses))


def check_smoothed(sigma: float, samples: int, n: int, alpha: float) -> None:
    """Raise ValueError for noise or votes that mean nothing."""
    check_sigma(sigma)
    check_votes(n, alpha)
    if type(samples) is not int or samples < 1:
        raise ValueError(f"samples: should be a whole number from 1, found {samples!r}")


def smoothed_target(
    network: nn.Module, engine: Engine, sigma: float, samples: int, n: int, alpha: float, seed: int
) -> Target:
    """Return the smoothed classifier of a base classifier at one sigma.

    engine: runs the network for the votes.  Its noise, like that of gradients, is keyed by (seed, position), each in a
    stream of its own.
    """

    def climbed(indices: Sequence[int]) -> nn.Module:
        return Averaged(network, indices, sigma, samples, seed)

    def decide(images: Tensor, indices: Sequence[int]) -> Tensor:
        # A sampler keeps images by their position: each decision is of other points.
        sampler = Sampler(engine, dict(zip(indices, images, strict=True)).__getitem__, sigma, seed)

        def counts(stream: int, which: Ints, start: Ints, many: Ints, sampler: Counts = sampler) -> Ints:
            return sampler(JUDGED + stream, which, start, many)

        return torch.from_numpy(vote(counts, np.array(indices), n, alpha)).to(images.device)

    return Target(climbed, decide, samples, n, False, engine.dtype, engine.device, sigma)


class Averaged(nn.Module):
    """log of the mean probabilities of m noisy copies: images [N, 3, H, W] → [N, K], whose softmax is that mean.

    It is of the images at these positions, in this order: each has noise of its own, the same in every call.
    """

    def __init__(self, network: nn.Module, indices: Sequence[int], sigma: float, samples: int, seed: int) -> None:
        super().__init__()
        self.network, self.indices, self.sigma, self.samples, self.seed = network, indices, sigma, samples, seed
        self.noise: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Run all copies of all images at once."""
        if self.noise is None:
            self.noise = self._drawn(images)
        noisy = (images[:, None] + self.sigma * self.noise).flatten(0, 1)
        logs = self.network(noisy).float().log_softmax(1).unflatten(0, (len(images), self.samples))
        return torch.logsumexp(logs, 1) - math.log(self.samples)

    def _drawn(self, images: Tensor) -> Tensor:
        """[N, m, 3, H, W], drawn on the CPU, so that every device has the same."""
        generator = torch.Generator()
        drawn = []
        for index in self.indices:
            generator.manual_seed(block_key(self.seed, index, CLIMBED, 0))
            drawn.append(torch.randn(self.samples, *images.shape[1:], generator=generator))
        return torch.stack(drawn).to(images.device)


def contradictions(frame: pd.DataFrame, certified: pd.DataFrame) -> pd.DataFrame:
    """Return what an attack of a smoothed classifier in l2 says of certified images, nearest to its radius first.

    frame: rows of the attack; certified: rows of a certification at the same sigma, of which it takes the images in
    both.  Columns index, prediction (certified class), radius, distance, adversarial, broken: whether another class
    was answered at a distance below the radius, of the image itself (0) or of its point.
    """
    both = certified[["index", "prediction", "radius"]].merge(
        frame[["index", "prediction", "adversarial", "distance"]], on="index", suffixes=("", "_here")
    )
    # The vote may name another class at the image itself: a point of distance 0.
    at_once = (both["prediction_here"] >= 0) & (both["prediction_here"] != both["prediction"])
    both["distance"] = both["distance"].mask(at_once, 0.0)
    both["adversarial"] = both["adversarial"].mask(at_once, both["prediction_here"])
    known = both[(both["prediction"] >= 0) & both["distance"].notna()].astype({"adversarial": np.int64})
    other = known["adversarial"] != known["prediction"]
    known = known.assign(broken=other & (known["distance"] < known["radius"]))
    nearest = (known["distance"] - known["radius"]).sort_values(kind="stable").index
    return known.loc[nearest].drop(columns="prediction_here").reset_index(drop=True)


def contradiction_text(found: pd.DataFrame, alpha: float, answer_alpha: float) -> str:
    """Return in words what of `contradictions`, which has some, contradicts certificates.

    alpha, answer_alpha: the probability that a certificate is wrong, and that an answer of the attacked classifier is.
    """
    broken = found[found["broken"]]
    first = broken.iloc[0]
    return (
        f"image {first['index']:.0f}: certified at radius {first['radius']:.4f} for class {first['prediction']:.0f}, "
        f"but class {first['adversarial']:.0f} is answered at distance {first['distance']:.4f}; so are {len(broken)} "
        f"of {len(found)}. Of each image the certificate is wrong with a probability of at most {alpha:g}, and the "
        f"answer of {answer_alpha:g}: more than that is a fault of one of them"
    )
