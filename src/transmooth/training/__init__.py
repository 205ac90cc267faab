"""Training: the one loop, of the workflow and of the command line."""
