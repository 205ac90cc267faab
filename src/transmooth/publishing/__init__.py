"""Publishing a checkpoint: its model card, and the folder that is uploaded to a hub."""
