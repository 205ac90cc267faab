"""Regions of the input space that have one σ each, fixed before any query: pure functions of images and choices.

    h(z) = G_S(z)(z),    S(z) = σ_i on the open ball B(x_i, ρ_i), a default elsewhere

G_σ is the smoothed classifier at one σ, the anchors x_i are clean images.  Balls of different σ are disjoint, so S is a
function; balls of equal σ may overlap.  Then h answers x_i's class within min(R_i, ρ_i), R_i the certified radius of
G_σi at x_i (docs/statistics.md has the proof).

Distances are lower bounds of the true ones, in units of the [0, 1] image.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from transmooth.smoothing.bounds import SLACK, Floats, Ints

NEAR = 4 * SLACK  # images that are nearer to each other get one σ
ROWS = 512  # of a block of images
BLOCK_BYTES = 2**26  # of one as float64, at most

Images = NDArray[Any]  # uint8, or floats in [0, 1]: [N, ...]


@dataclass(frozen=True)
class Allocation:
    """The frozen S of a sample-wise classifier.

    anchors: uint8 or floats in [0, 1], [N, 3, H, W].  sigmas, regions: float64 [N], σ_i and ρ_i.
    """

    anchors: Images
    sigmas: Floats
    regions: Floats

    @property
    def sha256(self) -> str:
        """The hash that names S: of the anchors' pixels in their order, their σ and their regions."""
        digest = hashlib.sha256(f"{self.anchors.dtype} {self.anchors.shape}".encode())
        for array in (self.anchors, self.sigmas, self.regions):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def sigma_at(self, points: Images) -> Floats:
        """Return S, float64 [M], at points [M, 3, H, W] in [0, 1]; NaN outside of every ball.

        By differences in float64, blocks of anchors and of points at a time.
        """
        found, flat = np.full(len(points), np.nan), points.reshape(len(points), -1)
        for block in _blocks(self.anchors):
            anchors = self.anchors[block].reshape(block.stop - block.start, -1).astype(np.float64)
            anchors /= 255 if self.anchors.dtype == np.uint8 else 1
            few = max(1, BLOCK_BYTES // (8 * anchors.size))
            for first in range(0, len(flat), few):
                some = slice(first, first + few)
                distance = np.sqrt(((flat[some, None].astype(np.float64) - anchors) ** 2).sum(2))
                inside = distance < self.regions[block]
                found[some] = np.where(inside.any(1), self.sigmas[block][inside.argmax(1)], found[some])
        return found


def allocate(images: Images, sigmas: ArrayLike, reach: float = np.inf) -> Allocation:
    """Return a ball for each image, whatever the order of the images.

        ρ_i = min( σ_i reach + SLACK,  ½ min { ‖x_i − x_j‖ : σ_j ≠ σ_i } )

    so ρ_i + ρ_j ≤ ‖x_i − x_j‖ where σ differ.  Images that are NEAR get the smallest σ among them.  sigmas: [N], chosen
    without the samples that certify.  reach: the largest radius that any image can be certified for at σ = 1, which is
    known beforehand, Φ⁻¹(α^(1/n)): a larger ball would serve no certificate.
    """
    wanted = np.asarray(sigmas, np.float64)
    if wanted.shape != (len(images),):
        raise ValueError(f"there must be one sigma for each image, got shape {wanted.shape} for {len(images)} images")
    own = one_sigma_for_near(images, wanted)
    return Allocation(images, own, room(images, own, own * reach + SLACK))


def room(images: Images, kinds: NDArray[Any], most: ArrayLike) -> Floats:
    """Return half the distance of each image to the nearest of another kind, at most `most`: float64 [N].

    Balls of these radii are disjoint where kinds differ, in any order of the images.
    """
    half = np.broadcast_to(np.asarray(most, np.float64), len(images)).copy()
    for rows, columns, distance in _pairs(images):
        distance[kinds[rows, None] == kinds[None, columns]] = np.inf
        half[rows] = np.minimum(half[rows], distance.min(1) / 2)
        half[columns] = np.minimum(half[columns], distance.min(0) / 2)
    return half


def one_sigma_for_near(images: Images, sigmas: Floats) -> Floats:
    """Return the σ of images, float64 [N], where those that are NEAR, or linked by others, have the smallest of theirs.

    No room is between them, and certificates that end at once are none.  It costs nothing in α: σ are chosen on other
    samples than those that certify.
    """
    group = same_pixels(images) if images.dtype == np.uint8 else _near(images)
    smallest = np.full(len(images), np.inf)
    np.minimum.at(smallest, group, sigmas)
    return smallest[group]


def same_pixels(images: Images) -> Ints:
    """Return a number for each image, int64 [N], that is the same where all pixels are.

    Images of bytes that differ are 1/255 apart at least, so that only equal ones are NEAR.
    """
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(image.tobytes(), len(first)) for image in images], np.int64)


def _near(images: Images) -> Ints:
    """Return a number for each image, the same where a chain of images that are NEAR leads from one to the other."""
    links = [
        np.argwhere(distance < NEAR) + np.array([rows.start, columns.start])
        for rows, columns, distance in _pairs(images)
    ]
    ends = np.concatenate([*links, np.zeros((0, 2), np.int64)]).T
    graph = coo_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), shape=(len(images), len(images)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _pairs(images: Images) -> Iterator[tuple[slice, slice, Floats]]:
    """Yield rows, columns and their distances, float64 [rows, columns], a block at a time: each pair of images once.

    N² distances are never held, and no more than two blocks of images are held as float64.
    """
    blocks = list(_blocks(images))
    for at, rows in enumerate(blocks):
        for columns in blocks[at:]:
            yield rows, columns, distances(images[rows], images[columns])


def distances(a: Images, b: Images) -> Floats:
    """Return lower bounds of the distances between images a [A, ...] and b [B, ...]: float64 [A, B].

    uint8: |a|² + |b|² − 2 a·b in float64 is exact, for every sum in it, in any order, is of integers below 2⁵³ (float32
    is not exact from d = 259 on); the root, and the division by 255, are rounded down.  Floats: a bound on the error of
    that sum, 2 (d + 3) u (|a| + |b|)², is taken off before the root.
    """
    exact = a.dtype == np.uint8
    x, y = (each.reshape(len(each), -1).astype(np.float64) for each in (a, b))
    xx, yy = (x * x).sum(1)[:, None], (y * y).sum(1)[None]
    square = xx + yy - 2 * (x @ y.T)
    if not exact:
        square -= 2 * (x.shape[1] + 3) * np.finfo(np.float64).eps * (np.sqrt(xx) + np.sqrt(yy)) ** 2
    root: Floats = np.nextafter(np.sqrt(np.maximum(square, 0)), 0)
    return np.asarray(np.nextafter(root / 255, 0)) if exact else root


def _blocks(images: Images) -> Iterator[slice]:
    pixels = int(np.prod(images.shape[1:]))
    rows = max(1, min(ROWS, BLOCK_BYTES // (8 * pixels)))
    return (slice(first, min(first + rows, len(images))) for first in range(0, len(images), rows))
