"""Class counts of noisy predictions, as fast as the machine allows.

A sampler answers `counts(stream, images, start, n)`: of the noise that belongs to each image and stream, evaluate
samples start .. start + n and count the predicted classes.  It keeps no state, so certifiers may ask in any order, for
many images at once, and always get the same answer: noise is keyed by (seed, image index, stream, block), whatever the
shard, rank or batch.  Samples of many images share one batch of one static shape.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from transmooth.certify.bounds import Ints
from transmooth.noise import block_key

BLOCK = 64  # samples drawn from one generator state; changing it changes every record
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Sampler:
    """Counts for one base classifier at one sigma.

    model: images [B, 3, H, W] in [0, 1] -> logits [B, K], in eval mode, normalisation inside.
    fetch: image index -> float32 [3, H, W] in [0, 1].
    dtype: `bf16` casts the network and the noisy image, after the noise was added in float32; the certificate is then
    for the network in bf16, which is why records name the dtype.

    Raises ValueError for sigma <= 0, a model in train mode, an image outside [0, 1], or logits that are not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        fetch: Callable[[int], Tensor],
        sigma: float,
        *,
        seed: int = 0,
        batch: int = 256,
        dtype: str = "fp32",
    ) -> None:
        if not 0 < sigma < float("inf"):
            raise ValueError(f"sigma must be positive and finite, found {sigma}")
        if any(module.training for module in model.modules()):
            raise ValueError("the model is in train mode: its BatchNorm or dropout would void the theorem; call eval()")
        self.device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
        self.model = model.to(dtype=DTYPES[dtype], memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.fetch, self.sigma, self.seed, self.dtype = fetch, sigma, seed, DTYPES[dtype]
        self.batch = batch
        self.generator = torch.Generator(self.device)

    @torch.inference_mode()
    def __call__(self, stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        requests = len(images)
        predictions, owners = [], []
        # Height x width x channels in memory: contiguous for the generator, channels-last for the convolutions.
        for noisy, owner in self._batches(stream, images, start, n):
            logits = self.model(noisy.permute(0, 3, 1, 2).to(self.dtype))
            predictions.append(torch.where(torch.isfinite(logits).all(1), logits.argmax(1), -1))
            owners.append(owner)
            classes = logits.shape[1]
        if not predictions:
            raise ValueError("no samples asked for")
        predicted, owner = torch.cat(predictions), torch.cat(owners).to(self.device)
        predicted, owner = predicted[owner >= 0], owner[owner >= 0]
        if (predicted < 0).any():
            broken = images[int(owner[predicted < 0][0])]
            raise ValueError(f"image {broken}: the model's logits are NaN or infinite at sigma = {self.sigma}")
        counts = torch.bincount(owner * classes + predicted, minlength=requests * classes)
        return counts.view(requests, classes).cpu().numpy()

    def _batches(self, stream: int, images: Ints, start: Ints, n: Ints) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of noisy images [batch, H, W, 3] and the request that each belongs to; -1 pads the last one."""
        buffer: Tensor | None = None
        owner = torch.full((self.batch,), -1)
        filled = 0
        for request, (index, first, count) in enumerate(zip(images, start, n, strict=True)):
            image = self._image(int(index))
            if buffer is None:
                buffer = torch.zeros(self.batch, *image.shape, device=self.device)
                noise = torch.empty(BLOCK, *image.shape, device=self.device)
            for block in range(first // BLOCK, -(-(first + count) // BLOCK)):
                self.generator.manual_seed(block_key(self.seed, int(index), stream, block))
                noise.normal_(generator=self.generator)
                low = max(first - block * BLOCK, 0)
                high = min(first + count - block * BLOCK, BLOCK)
                while low < high:
                    room = min(high - low, self.batch - filled)
                    part = buffer[filled : filled + room]
                    torch.add(image, noise[low : low + room], alpha=self.sigma, out=part)
                    owner[filled : filled + room] = request
                    low, filled = low + room, filled + room
                    if filled == self.batch:
                        yield buffer, owner
                        owner, filled = torch.full((self.batch,), -1), 0
        if filled:
            assert buffer is not None
            yield buffer, owner

    def _image(self, index: int) -> Tensor:
        """Height x width x channels, checked."""
        image = self.fetch(index)
        low, high = image.aminmax()
        if not (low >= 0 and high <= 1):  # NaN fails both
            raise ValueError(f"image {index}: should be within [0, 1], found {float(low):g} to {float(high):g}")
        return image.permute(1, 2, 0).contiguous().to(self.device)
