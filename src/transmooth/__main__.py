"""`python -m transmooth`: what the workflow's rules and `accelerate launch -m transmooth` run."""

import sys

from transmooth.runtime import fork_client, shutdown

shutdown.end_with_run()
status = fork_client.run(sys.argv[1:])
if status is not None:
    sys.exit(status)

from transmooth.cli import app  # noqa: E402  (the client of a warm server imports no more than it needs)

app()
