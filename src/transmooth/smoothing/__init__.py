"""Certification: `sampler` counts noisy predictions, a certifier concludes from the counts alone."""
