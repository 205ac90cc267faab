"""`python -m transmooth`, which is also what `accelerate launch -m transmooth` runs."""

from transmooth.cli import app

app()
