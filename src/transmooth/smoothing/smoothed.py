"""Smooth any classifier: predict and certify, from tensors to tensors and data frames.

    model = timm.create_model(…).eval()          # images [B, 3, H, W] in [0, 1] → logits, normalisation inside
    frame = certify(model, images, labels, sigma=0.5)

The smoothed classifier of a base classifier f is g(x) = argmax_c P[f(x + δ) = c], δ ~ N(0, σ²I). Where c has a
probability p > 1/2, g is constant within the ℓ2 radius σ Φ⁻¹(p) of x (Cohen, Rosenfeld, Kolter 2019).

**Several σ.** A certificate is about g at ONE σ, fixed without the samples that estimate it. Certifying at several σ
and keeping each image's largest radius (the oracle envelope of the papers) certifies no classifier: x ↦ g_σ(x)(x) may
choose another σ next to x and then answers with another classifier, about which the radius at x says nothing.
Two ways are valid.  One σ for all images is chosen on other noise, at no cost in α (`choose_sigma`).  Or one classifier
is made of several σ and certified itself (`sigma=[1.0, 0.5, 0.25], method="cascade"`; see `smoothing.multi_sigma`).
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.special import bdtr
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from transmooth.params.values import AnyMethod, MultiSigma
from transmooth.params.values import Engine as EngineName
from transmooth.smoothing.bounds import Floats, Ints, check_integer, check_probability, check_sigma
from transmooth.smoothing.chunks import certify_chunks
from transmooth.smoothing.decision import ABSTAIN, CHOICE, ESTIMATION, SELECTION, Counts, draw
from transmooth.smoothing.engine import EXAMPLES, base_classifier, prepare, prepare_each
from transmooth.smoothing.methods import METHODS, Settings, check, evaluations
from transmooth.smoothing.multi_sigma import RULES, Stages, choose
from transmooth.smoothing.sampler import Sampler

# What is smoothed: a module in eval mode, or any function, of images [B, C, H, W] in [0, 1] → logits [B, K].
Model = nn.Module | Callable[[Tensor], Any]
# Images [N, C, H, W] in [0, 1], or what gives (image, label) or (images, labels), or images alone.
Images = Tensor | np.ndarray[Any, Any] | Sequence[Any] | DataLoader[Any] | Dataset[Any]


class SmoothedClassifier(nn.Module):
    """The smoothed classifier g of a base classifier, at one σ, or one classifier h of several (see `multi_sigma`).

    model: images [B, 3, H, W] in [0, 1] → logits [B, K], in eval mode, an image's logits independent of its batch; a
    module, or any function; an output with `logits`, as those of transformers, stands for these.
    Where the model has a method `at(sigma)`, what that returns is smoothed: a denoiser needs to know the noise.
    sigma: standard deviation of the noise, in units of the [0, 1] image; several in the order of their stages. method,
    thresholds: of several, see `certify`. dtype: `bf16` smooths the network in bf16.
    engine, batch: how the network is run, else chosen by a short timing (see `smoothing.engine`).
    Noise is a function of (seed, position of the image). seed: for answers that can be repeated. Without one each call
    of `predict` draws a fresh seed, unknown to the source of the images, and `certify` takes 0.

        SmoothedClassifier(model, sigma=0.5)(images)
    """

    def __init__(
        self,
        model: Model,
        sigma: float | Sequence[float],
        *,
        method: AnyMethod = "cohen",
        thresholds: Sequence[float] | None = None,
        seed: int | None = None,
        dtype: str = "fp32",
        engine: EngineName = "auto",
        batch: int | None = None,
    ) -> None:
        _check_settings(0.001, batch)
        for each in _each(sigma):
            check_sigma(each)
        if _stages(method, sigma, thresholds) is None and _is_listed(sigma):
            several = ", ".join(RULES)
            raise ValueError(f"one classifier of several sigmas is for the methods {several}; got them with {method}")
        super().__init__()
        self.model, self.seed = as_module(model), seed
        self.sigma = _each(sigma) if method in RULES else _each(sigma)[0]
        self.method, self.thresholds = method, _numbers("thresholds", thresholds)
        self.run: dict[str, Any] = {"dtype": dtype, "engine": engine, "batch": batch}

    def forward(self, images: Tensor) -> Tensor:
        """`predict` with its defaults."""
        return self.predict(images)

    def predict(self, images: Images, n: int = 1000, alpha: float = 0.001) -> Tensor:
        """Return the class of g for each image [B, 3, H, W], int64 [B], −1 where it abstains (see `vote`).

        Of several σ the answer is the class that `certify` would certify at some radius > 0, by 100 selection samples
        and n more at each σ; per image, P[answer is neither h(x) nor −1] ≤ alpha, as for one σ.

        Raises ValueError for a model or images that cannot be smoothed.
        """
        seed = secrets.randbits(63) if self.seed is None else self.seed
        if isinstance(self.sigma, tuple):
            own: dict[str, Any] = {
                "method": self.method,
                "thresholds": self.thresholds,
                "n": n,
                "alpha": alpha,
                "seed": seed,
            }
            frame = certify(self.model, images, sigma=self.sigma, **own, **self.run)
            return torch.from_numpy(frame["prediction"].to_numpy()[:: len(self.sigma)].copy())
        images, _ = as_images(images)
        model = with_logits(self.model, images[0])
        return predict_at(model, images, np.arange(len(images)), self.sigma, seed, n, alpha, self.run)

    def certify(self, images: Images, labels: ArrayLike | None = None, **settings: Any) -> pd.DataFrame:
        """`certify` of this module, with its other settings."""
        own = {"method": self.method, "thresholds": self.thresholds, "seed": self.seed or 0}
        return certify(self.model, images, labels, sigma=self.sigma, **own | settings, **self.run)


def predict_at(
    model: nn.Module, images: Tensor, which: Ints, sigma: float, seed: int, n: int, alpha: float, run: dict[str, Any]
) -> Tensor:
    """Return the class of g at sigma for the images at the positions `which`, int64, −1 where it abstains.

    images: [N, 3, H, W] in [0, 1], checked; the noise of each is of its position.  run: how the network is run, see
    `SmoothedClassifier`.  Raises ValueError for a seed or votes that mean nothing, and a model that cannot be smoothed.
    """
    check_integer("seed", seed)
    check_votes(n, alpha)
    network = base_classifier(model, sigma)
    check_model(network, images[0])
    made = prepare(network, images[:EXAMPLES], sigma, n * len(which), **run)
    return torch.from_numpy(vote(Sampler(made, images.__getitem__, sigma, seed), which, n, alpha))


def certify(
    model: Model,
    images: Images,
    labels: ArrayLike | None = None,
    *,
    sigma: float | Sequence[float],
    method: AnyMethod = "cohen",
    thresholds: Sequence[float] | None = None,
    n0: int = 100,
    n: int = 100_000,
    alpha: float = 0.001,
    radii: Sequence[float] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    dtype: str = "fp32",
    engine: EngineName = "auto",
    batch: int | None = None,
) -> pd.DataFrame:
    """Certify images [N, 3, H, W] in [0, 1]: one row each, the columns of a record (see `transmooth.records.table`).

    images: a tensor or array of floats, a list of tensors, a Dataset or a DataLoader; the latter two may give the
    labels too.  model: see `SmoothedClassifier`.  sigma: one, or several: then there is a row for each image and sigma.
    method, n0, n, alpha, radii, tolerance: see `smoothing.methods`; dtype, engine, batch: see `SmoothedClassifier`.
    With `labels` [N], methods that may stop early do so where the selected class is wrong. Per image, P[radius > true
    radius] ≤ alpha if the image was chosen without knowing the noise, hence `seed`; prediction −1 and radius 0 mean
    that nothing could be certified: more samples may help, or noise of this σ leaves the model no majority.

    sigma: several, with method `cascade` or `margin`, are the stages of one classifier, in order; thresholds: τ ≥ 0 of
    each, 0 where they are not given. There is a row for each image and σ then, image by image, in all of which
    selected, prediction and radius are that classifier's; n, top_count and runner_up are of the σ, and n is 0 where its
    samples could not have changed the radius.

    Columns: index (position), label (if given), prediction, radius (ℓ2), radius_linf = radius / √(3·H·W), which holds
    because an ℓ∞ ball lies in the ℓ2 ball of √d times its radius, selected, n, top_count, evaluations, seconds, method,
    alpha, n0, seed, dtype, sigma.

    Raises ValueError for settings that could never certify, images outside [0, 1], and a model that cannot be smoothed.
    """
    _check_settings(alpha, batch)
    sigmas, stages, radii = _each(sigma), _stages(method, sigma, thresholds), _numbers("radii", radii)
    if not sigmas:
        raise ValueError("certify needs at least one sigma, got none")
    if stages is None and len(sigmas) > 1:
        sigmas = tuple(sorted(set(sigmas)))
    settings = Settings(method, n0, n, alpha, radii, seed, tolerance, stages)
    for each in sigmas:
        check(settings, each)
    images, labels = as_images(images, labels)
    model = with_logits(as_module(model), images[0])
    classes = min(check_model(base_classifier(model, each), images[0]) for each in sigmas)
    known: list[int | None] = [None] * len(images)
    if labels is not None:
        known = class_numbers(labels, classes).tolist()
    firsts = [together[0] for together in settings.together(sigmas)]
    todo = [(each, index, label) for each in firsts for index, label in enumerate(known)]
    planned = len(images) * len(sigmas) * evaluations(settings)
    made = prepare_each(model, images[:EXAMPLES], sigmas, planned, dtype=dtype, engine=engine, batch=batch)
    rows = [row for chunk in certify_chunks(made, images.__getitem__, todo, settings) for row in chunk]
    frame = pd.DataFrame(rows)
    if settings.stages:
        frame = frame.sort_values(["index", "stage"], ignore_index=True)
    frame.insert(4, "radius_linf", frame["radius"] / np.sqrt(images[0].numel()))
    return frame if labels is not None else frame.drop(columns="label")


def _each(sigma: Any) -> tuple[float, ...]:
    """Return the sigmas, or the one.  Raises ValueError for what is no number or several."""
    given = list(sigma) if _is_listed(sigma) else [sigma]
    if not all(map(_is_number, given)):
        raise ValueError(
            f"sigma must be a positive finite number (noise on the [0, 1] image), or several, got {sigma!r}"
        )
    return tuple(map(float, given))


def _is_number(value: Any) -> bool:
    return (isinstance(value, Real) and not isinstance(value, bool)) or (
        isinstance(value, np.ndarray | Tensor) and not value.ndim
    )


def _numbers(name: str, values: Any) -> tuple[float, ...] | None:
    """Return a list, array or tensor of numbers as floats; None for None.  Raises ValueError, naming it, for others."""
    if values is None:
        return None
    if not (_is_listed(values) and all(map(_is_number, values))):
        raise ValueError(f"{name} must be a list of numbers, got {values!r}")
    return tuple(map(float, values))


def _check_settings(alpha: Any, batch: Any) -> None:
    """Raise ValueError, naming it, for a setting of another kind than it should be."""
    if not _is_number(alpha):
        raise ValueError(f"alpha must be a number strictly between 0 and 1, got {alpha!r}")
    if batch is not None and (not isinstance(batch, Integral) or isinstance(batch, bool) or batch < 1):
        raise ValueError(f"batch must be a whole number of images from 1 on, or None, got {batch!r}")


def _stages(
    method: AnyMethod, sigma: float | Sequence[float], thresholds: Sequence[float] | None
) -> tuple[tuple[float, float], ...] | None:
    """σ and threshold of each stage of one classifier of several σ.  Raises ValueError where they do not fit."""
    several = ", ".join(RULES)
    if method not in RULES:
        if thresholds is not None:
            raise ValueError(f"thresholds are for the methods {several}; got them with {method}")
        return None
    sigmas, given = _each(sigma), _numbers("thresholds", thresholds)
    if given is not None and len(given) != len(sigmas):
        raise ValueError(f"there must be one threshold for each of {len(sigmas)} sigmas, got {len(given)}")
    return tuple(zip(sigmas, given or [0.0] * len(sigmas), strict=True))


def choose_sigma(
    model: Model,
    images: Images,
    labels: ArrayLike | None,
    sigmas: Sequence[float],
    *,
    radius: float | None = None,
    n0: int = 100,
    n: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    dtype: str = "fp32",
    engine: EngineName = "auto",
    batch: int | None = None,
) -> tuple[float, dict[float, float]]:
    """The σ to deploy: the best of `sigmas` on held-out images, and the score of each; the smaller one of equals.

    The score is the certified accuracy at `radius`, or the ACR without one, by Cohen's method. The noise is of streams
    that `certify` never draws, so whatever σ̂ this gives, it is a constant to the samples that certify g_σ̂: their
    guarantee holds at the full alpha. Images that are also certified later do not void it, but the accuracy then
    reported was chosen to be high on them.
    """
    _check_settings(alpha, batch)
    sigmas = _each(sigmas)
    settings = Settings("cohen", n0, n, alpha, None, seed)
    images, labels = as_images(images, labels)
    if labels is None:
        raise ValueError("choose_sigma needs the labels of the images, or a DataLoader or Dataset that gives them")
    if not sigmas:
        raise ValueError("choose_sigma needs at least one sigma to choose from, got none")
    model = with_logits(as_module(model), images[0])
    right = class_numbers(labels, check_model(base_classifier(model, max(sigmas)), images[0]))
    for sigma in sigmas:
        check(settings, sigma)
    planned = len(images) * len(sigmas) * evaluations(settings)
    made = prepare_each(model, images[:EXAMPLES], sigmas, planned, dtype=dtype, engine=engine, batch=batch)
    scores = {}
    for sigma in sigmas:
        sampler = Sampler(made[sigma], images.__getitem__, sigma, seed)

        def counts(stream: int, which: Ints, start: Ints, samples: Ints, sampler: Counts = sampler) -> Ints:
            return sampler(CHOICE + stream, which, start, samples)

        decisions = METHODS["cohen"](counts, np.arange(len(images)), right, sigma, settings)
        certified: Floats = np.where(decisions.prediction == right, decisions.radius, -1)
        scores[sigma] = float(certified.clip(0).mean() if radius is None else (certified >= radius).mean())
    return max(scores, key=lambda sigma: (scores[sigma], -sigma)), scores


def choose_stages(
    model: Model,
    images: Images,
    labels: ArrayLike | None,
    sigmas: Sequence[float],
    *,
    method: MultiSigma = "cascade",
    radius: float | None = None,
    n: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    dtype: str = "fp32",
    engine: EngineName = "auto",
    batch: int | None = None,
) -> tuple[Stages, float]:
    """Return the stages to deploy, of these sigmas in their order, and their score (see `multi_sigma.choose`).

        stages, _ = choose_stages(model, images, labels, [1.0, 0.5, 0.25])
        SmoothedClassifier(model, stages.sigmas, method=stages.rule, thresholds=stages.thresholds)

    images, labels: held out.  The noise is none that `certify` draws, as of `choose_sigma`.
    """
    _check_settings(alpha, batch)
    sigmas = _each(sigmas)
    if not sigmas:
        raise ValueError("choose_stages needs at least one sigma to choose from, got none")
    asked = tuple((sigma, 0.0) for sigma in sigmas)
    for sigma in sigmas:
        check(Settings(method, 1, n, alpha, seed=seed, stages=asked), sigma)
    images, labels = as_images(images, labels)
    if labels is None:
        raise ValueError("choose_stages needs the labels of the images, or a DataLoader or Dataset that gives them")
    model = with_logits(as_module(model), images[0])
    right = class_numbers(labels, min(check_model(base_classifier(model, sigma), images[0]) for sigma in sigmas))
    planned = len(images) * len(sigmas) * n
    made = prepare_each(model, images[:EXAMPLES], sigmas, planned, dtype=dtype, engine=engine, batch=batch)
    indices, every = np.arange(len(images)), np.full(len(images), n)
    seen = [
        draw(Sampler(made[sigma], images.__getitem__, sigma, seed), CHOICE + ESTIMATION, indices, 0 * every, every)
        for sigma in sigmas
    ]
    return choose(np.stack(seen, 1), right, sigmas, method, alpha, radius=radius)


def vote(counts: Counts, images: Ints, n: int, alpha: float) -> Ints:
    """PREDICT of Cohen et al. (2019): the class of g for each image, int64 [B], −1 for abstained.

    The answer is the most frequent class c of n noisy predictions, if a two-sided test at alpha rejects that c and the
    runner-up are equally likely: 2 P[Bin(k_1 + k_2, 1/2) ≤ k_2] ≤ alpha. Per image, P[answer is neither g(x) nor −1] ≤
    alpha if the image was chosen without knowing the noise; it abstains where n samples cannot tell the two apart, near
    g's boundary even for large n. Raises ValueError as `check_votes`.
    """
    check_votes(n, alpha)
    every = np.full(len(images), n)
    seen = draw(counts, SELECTION, images, np.zeros_like(every), every)
    second, first = np.sort(seen, axis=1)[:, -2:].T
    tail = 2 * bdtr(second.astype(np.float64), first + second, 0.5)
    return np.where(tail <= alpha, seen.argmax(1), ABSTAIN)


def check_votes(n: int, alpha: float) -> None:
    """Raise ValueError for an alpha that is no probability, no number of votes, or too few ever to answer at it."""
    check_integer("n", n)
    check_probability("alpha", alpha)
    # 2 · 2⁻ⁿ ≤ alpha: what even a unanimous vote needs.
    if n < (fewest := int(np.ceil(1 - np.log2(alpha)))):
        raise ValueError(f"n = {n} votes always abstain at alpha = {alpha}: it takes at least {fewest}")


def class_numbers(labels: ArrayLike, classes: int) -> Ints:
    """Labels as integers.  Raises ValueError for one that is none, or not one of the model's classes."""
    given = np.asarray(labels)
    if given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= classes:
        shown = f"{given.dtype} from {given.min()} to {given.max()}" if given.dtype.kind in "iuf" else f"{given.dtype}"
        raise ValueError(f"labels must be integers in [0, {classes}), the model's classes, got {shown}")
    return given.astype(np.int64)


def as_images(images: Images, labels: ArrayLike | None = None) -> tuple[Tensor, ArrayLike | None]:
    """Return images as a float32 tensor [N, C, H, W], and their labels, which a DataLoader or Dataset may give.

    Raises ValueError for what is none, for images outside [0, 1] and unless there is one label each if there are any.
    """
    if isinstance(images, np.ndarray):
        images = _tensor(images)
    elif isinstance(images, DataLoader | Dataset) or (isinstance(images, list | tuple) and len(images)):
        images, given = _gathered(images)
        if labels is not None and given is not None:
            raise ValueError("labels are given twice: by themselves, and with the images")
        labels = given if labels is None else labels
    if not isinstance(images, Tensor):
        raise ValueError(
            "images must be a tensor or array of floats [N, 3, H, W] in [0, 1], a list of tensors, a Dataset or a "
            f"DataLoader, got {type(images).__name__}"
        )
    check_images(images, labels)
    return images.to(torch.float32), labels


def _tensor(images: np.ndarray[Any, Any]) -> Tensor:
    """Return an array as a tensor; numbers that torch has not become doubles.  Raises ValueError for no numbers."""
    if images.dtype.kind not in "biuf":
        raise ValueError(
            f"images must be floats [N, 3, H, W] in [0, 1], N ≥ 1, got {images.dtype} {list(images.shape)}"
        )
    native = images.dtype.newbyteorder("=") if images.dtype.itemsize <= 8 else np.dtype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(images, native))


def _gathered(source: Any) -> tuple[Tensor, ArrayLike | None]:
    """Return the images, and labels if there are any, of an iterable of images or pairs, or of batches of them."""
    images: list[Tensor] = []
    labels: list[Any] = []
    batched = isinstance(source, DataLoader) and source.batch_size is not None
    items = range(len(source)) if isinstance(source, Dataset) and hasattr(source, "__len__") else None
    for item in source if items is None else (source[number] for number in items):
        image, *rest = item if isinstance(item, list | tuple) else (item,)
        if isinstance(image, np.ndarray):
            image = _tensor(image)
        if not isinstance(image, Tensor):
            cure = (
                "an item is an image, or an image and its label"
                if isinstance(image, Mapping)
                else "torchvision's ToTensor, without Normalize, makes one of a picture"
            )
            raise ValueError(f"each image must be a tensor of floats in [0, 1], got {type(image).__name__}; {cure}")
        images.append(image if batched else image[None])
        try:
            labels += [] if not rest else torch.as_tensor(rest[0]).reshape(-1).tolist()
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"each label must be the number of a class, got {type(rest[0]).__name__}") from None
    try:
        found = torch.cat(images)
    except RuntimeError:
        raise ValueError(
            f"images must be of one shape, got {sorted({tuple(i.shape[1:]) for i in images})[:4]}"
        ) from None
    return found, labels or None


def _is_listed(sigma: object) -> bool:
    return isinstance(sigma, list | tuple | range) or (isinstance(sigma, np.ndarray | Tensor) and sigma.ndim == 1)


def check_images(images: Tensor, labels: ArrayLike | None = None) -> None:
    """Raise ValueError unless images are floats [N ≥ 1, C, H, W] in [0, 1], with one label each if there are any."""
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        cure = "; bytes become such by images / 255" if images.dtype == torch.uint8 else ""
        raise ValueError(
            f"images must be floats [N, 3, H, W] in [0, 1], N ≥ 1, got {images.dtype} {list(images.shape)}{cure}"
        )
    if images.shape[1] > 4 and images.shape[3] in (1, 3):
        raise ValueError(
            f"images must be [N, 3, H, W], got {list(images.shape)}: images.permute(0, 3, 1, 2) puts channels first"
        )
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):  # NaN fails both
        cure = ""
        if low >= 0 and 2 < high <= 255:
            cure = "; images of 0 to 255 become such by images / 255"
        elif low < 0 and high < 20:
            cure = "; where they are normalised, let the model do it: noise and radii are of images in [0, 1]"
        raise ValueError(f"images must be within [0, 1], got {float(low):.9g} to {float(high):.9g}{cure}")
    if labels is not None and np.shape(labels) != (len(images),):
        raise ValueError(f"there must be one label per image, got shape {np.shape(labels)} for {len(images)} images")


class _Function(nn.Module):
    """A plain function of images as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, images: Tensor) -> Any:
        return self.function(images)


class _Logits(nn.Module):
    """The logits of a module that returns them in an object, a dict or a tuple of one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits = _logits_in(self.module(images))
        assert logits is not None
        return logits


def _logits_in(output: Any) -> Tensor | None:
    """Return the logits in what a model returns; None where it is not certain which they are."""
    if isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if isinstance(output, Mapping):
        output = output.get("logits")
    logits = getattr(output, "logits", output)
    return logits if isinstance(logits, Tensor) else None


def as_module(model: Model) -> nn.Module:
    """Return the model, a plain function in a module.  Raises ValueError for what cannot be called."""
    if isinstance(model, nn.Module):
        return model
    if not callable(model):
        raise ValueError(f"the model must be a torch.nn.Module or a function of images, got {type(model).__name__}")
    return _Function(model)


@torch.inference_mode()
def with_logits(model: nn.Module, image: Tensor) -> nn.Module:
    """Return the model, in a module that takes the logits out of its output where that is no tensor but has them.

    image: one [C, H, W] to try.  What fails here, or has no logits, is returned as it is, for `check_model` to refuse.
    """
    if hasattr(model, "at") or any(module.training for module in model.modules()):
        return model
    device = next((tensor.device for tensor in model.parameters()), image.device)
    try:
        output = model(image[None].to(device))
    except Exception:  # whatever someone's model raises
        return model
    return model if isinstance(output, Tensor) or _logits_in(output) is None else _Logits(model)


@torch.inference_mode()
def check_model(model: nn.Module, image: Tensor) -> int:
    """Return the number of classes K of a model that can be smoothed, tried on one image [3, H, W] in [0, 1].

    Raises ValueError, with the reason, for a module in train mode, logits that are not [B, K] or not finite, that
    differ from call to call, or that depend on the other images of the batch: the theorem is about a fixed function of
    one image.
    """
    training = [name or type(module).__name__ for name, module in model.named_modules() if module.training]
    if training:
        shown = ", ".join(training[:3])
        raise ValueError(
            f"the model is in train mode ({shown}): BatchNorm or dropout would void the theorem; call eval()"
        )
    device = next((tensor.device for tensor in model.parameters()), image.device)
    if device.type == "meta":
        raise ValueError("the model has no weights: it is on the meta device")
    image = image.to(device)
    batch = torch.stack([image, 1 - image, image.flip(-1), torch.zeros_like(image)])
    try:
        together, again, alone = model(batch), model(batch), model(batch[:1])
    except Exception as error:  # whatever someone's model raises, the reason is that it does not take these images
        reason = str(error).strip().split("\n")[0]
        others = {each.dtype for each in model.parameters() if each.is_floating_point()} - {torch.float32}
        cure = f"; it has weights of {others.pop()}, images are float32: model.float() takes them" if others else ""
        raise ValueError(
            f"the model fails on images {list(batch.shape)} or on one of them alone: {reason}{cure}"
        ) from error
    if not isinstance(together, Tensor) or together.ndim != 2 or len(together) != 4 or together.shape[1] < 2:
        if isinstance(together, Tensor):
            raise ValueError(f"the model must give logits [B, K ≥ 2], got {list(together.shape)} for 4 images")
        raise ValueError(
            f"the model must give logits [B, K ≥ 2], got {type(together).__name__} for 4 images; wrap it in a "
            "torch.nn.Module whose forward takes them out, such as `return self.model(images)[0]`"
        )
    if not torch.isfinite(together).all():
        raise ValueError("the model's logits are NaN or infinite on an image without noise")
    # Batches of another size are computed in another order: equal logits differ in the last digits.
    slack = 0.01 * (together.amax() - together.amin()) + 1e-6
    if (together - again).abs().max() > slack:
        raise ValueError("the model is random: it gives other logits for the same images, as active dropout does")
    if (together[:1] - alone).abs().max() > slack:
        raise ValueError(
            "the model is batch-dependent: an image has other logits alone than among others, as with BatchNorm that "
            "uses the statistics of the batch"
        )
    return int(together.shape[1])
