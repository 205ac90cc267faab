"""A checkpoint for others: its model card, and the folder that is uploaded to a hub."""
