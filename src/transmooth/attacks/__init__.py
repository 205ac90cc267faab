"""Attacks, as plain functions: (network, images, labels, where to begin, how far) → images.

    network   images → logits; the bare network, not its DDP wrapper: each forward of that meets the other processes
    images    [N, 3, H, W] of any floating type and order of memory, what the ball is around
    labels    int64 [N]
    begin     [N, 3, H, W], what is added to the images to begin with (`BALLS[norm].start`, or `keyed_starts`)

An attack is in eval mode, and leaves every module in its own mode and the weights without gradients.  Nothing of an
image depends on the others of its batch.  Gradients are switched on where they are off; not under
`torch.inference_mode`, in which there are none.
"""
