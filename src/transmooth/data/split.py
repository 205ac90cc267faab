"""Splits by class: in proportion, or the first images of each."""

import numpy as np
import numpy.typing as npt


def stratified(labels: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """`count` of the N indices, sorted, drawn at random within each class of `labels` [N].

    A class of m images gives count·m/N of them, rounded down or up so that they add up to `count`.
    Raises ValueError unless 0 <= count < N.
    """
    if not 0 <= count < len(labels):
        raise ValueError(f"cannot take {count} of {len(labels)} images and leave some")
    rng = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / len(labels)
    quota = np.floor(shares).astype(np.int64)
    # The images still missing go to the classes that lost most by rounding down.
    quota[np.argsort(quota - shares, kind="stable")[: count - quota.sum()]] += 1
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:k] for label, k in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate(drawn))


def first_of_each(labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return the indices, sorted, of the first `count` images of each class of `labels` [N], or of all that it has."""
    chosen = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))
