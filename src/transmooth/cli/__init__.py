"""The command line.  Nothing is imported before it is asked for: the fork server listens within a tenth of a second."""

import sys


def app() -> None:
    """Run `transmooth`.  Ctrl-C while its modules are imported ends it as it does later: in a word, with status 130."""
    try:
        from transmooth.cli.main import app as commands
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    commands()
