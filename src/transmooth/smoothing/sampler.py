"""Class counts of noisy predictions, as fast as the machine allows.

A sampler answers `counts(stream, images, start, n)`: of the noise that belongs to each image and stream, evaluate
samples start .. start + n and count the predicted classes.  No answer depends on earlier ones: certifiers ask
in any order, for many images at once.  The noise is keyed by (seed, image index, stream, block), so shards and ranks do
not change it.  Samples of many images share one batch of one static shape.
The processor works ahead of the device: they meet once an answer, to copy the counts.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from transmooth.noise import block_key
from transmooth.smoothing.bounds import Ints, check_sigma
from transmooth.smoothing.engine import Engine

BLOCK = 64  # samples drawn from one generator state; changing it changes every record


class Sampler:
    """Counts for one base classifier at one sigma.

    engine: the base classifier, ready to run; samplers at several sigmas can share it.  In bf16 the noisy image is cast
    after the noise was added in float32; the certificate is then for the network in bf16, which is why records name the
    dtype.
    fetch: image index -> float32 [3, H, W] in [0, 1].

    Raises ValueError for sigma <= 0, an image outside [0, 1], or logits that are not finite.
    """

    def __init__(self, engine: Engine, fetch: Callable[[int], Tensor], sigma: float, seed: int = 0) -> None:
        check_sigma(sigma)
        self.engine, self.fetch, self.sigma, self.seed = engine, fetch, sigma, seed
        self.device, self.batch = engine.device, engine.batch
        self.generator = torch.Generator(self.device)
        self.images: dict[int, Tensor] = {}  # of the last answer: a sequential test asks for the same ones again

    @torch.no_grad()  # not inference_mode, under which frozen weights are not compiled in
    def __call__(self, stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        counts: Tensor | None = None
        ones = torch.ones(self.batch, dtype=torch.int64, device=self.device)
        self.images = {int(index): self._image(int(index)) for index in images}
        for noisy, owner in self._batches(stream, images, start, n):
            logits = self.engine.run(noisy)
            classes = logits.shape[1]
            if counts is None:
                # A row more for the padding and a column more for logits that are not finite: counted on the device
                # and looked at once, at the end.
                counts = torch.zeros((len(images) + 1) * (classes + 1), dtype=torch.int64, device=self.device)
            predicted = torch.where(torch.isfinite(logits).all(1), logits.argmax(1), classes)
            counts.index_add_(0, owner * (classes + 1) + predicted, ones)
        if counts is None:
            raise ValueError("no samples asked for")
        table = counts.view(len(images) + 1, -1)[:-1].cpu().numpy()
        if table[:, -1].any():
            broken = images[int(table[:, -1].argmax())]
            raise ValueError(f"image {broken}: the model's logits are NaN or infinite at sigma = {self.sigma}")
        return table[:, :-1]

    def _batches(self, stream: int, images: Ints, start: Ints, n: Ints) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of noisy images [batch, H, W, 3] and the request that each belongs to; len(images) pads the last.

        Both are overwritten for the next batch.
        """
        buffer: Tensor | None = None
        owner = torch.full((self.batch,), len(images), device=self.device)
        filled = 0
        for request, (index, first, count) in enumerate(zip(images, start, n, strict=True)):
            image = self.images[int(index)]
            if buffer is None:
                # Contiguous for the generator: filling a channels-last view is serial and 10 times slower on a CPU.
                buffer = torch.zeros(self.batch, *image.shape, device=self.device)
                noise = torch.empty(BLOCK, *image.shape, device=self.device)
            for block in range(first // BLOCK, -(-(first + count) // BLOCK)):
                self.generator.manual_seed(block_key(self.seed, int(index), stream, block))
                noise.normal_(generator=self.generator)
                low = max(first - block * BLOCK, 0)
                high = min(first + count - block * BLOCK, BLOCK)
                while low < high:
                    room = min(high - low, self.batch - filled)
                    torch.add(image, noise[low : low + room], alpha=self.sigma, out=buffer[filled : filled + room])
                    owner[filled : filled + room] = request
                    low, filled = low + room, filled + room
                    if filled == self.batch:
                        yield buffer, owner
                        filled = 0
        if filled:
            assert buffer is not None
            owner[filled:] = len(images)
            yield buffer, owner

    def _image(self, index: int) -> Tensor:
        """Height x width x channels, checked, on the device."""
        if index in self.images:
            return self.images[index]
        image = self.fetch(index)
        low, high = image.aminmax()
        if not (low >= 0 and high <= 1):  # NaN fails both
            raise ValueError(f"image {index}: should be within [0, 1], found {float(low):g} to {float(high):g}")
        image = image.permute(1, 2, 0).contiguous()
        if self.device.type == "cuda" and image.device.type == "cpu":
            image = image.pin_memory()
        return image.to(self.device, non_blocking=True)
