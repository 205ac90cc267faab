"""Certification: `sampler` counts noisy predictions, a certifier draws conclusions from the counts alone."""

from transmooth.certify.chunks import certify_chunks
from transmooth.certify.decision import ABSTAIN, Decisions

__all__ = ["ABSTAIN", "Decisions", "certify_chunks"]
