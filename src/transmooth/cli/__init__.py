"""The command line.  Nothing is imported before it is asked for: the fork server listens within a tenth of a second."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transmooth.cli.main import app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    if name == "app":  # what the command `transmooth` calls
        from transmooth.cli.main import app

        return app
    raise AttributeError(f"module 'transmooth.cli' has no attribute {name!r}")
