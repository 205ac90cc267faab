"""Checkpoints: weights (safetensors) beside a readable card (JSON), and the state that an interrupted run resumes from.

<folder>/model.safetensors   the weights, nothing that can execute
<folder>/model.json          the card: what the network is, how it was made, what it reaches
<folder>/resume.pt           until a run has succeeded: a SHA-256, then tensors and plain values (weights_only)
"""
