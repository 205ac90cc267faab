"""Base classifiers: images in [0, 1] → logits, normalisation inside."""
