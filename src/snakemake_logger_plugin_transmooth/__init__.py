"""The name by which `snakemake --logger transmooth` finds transmooth's terminal."""

from transmooth.runtime.terminal import LogHandler

__all__ = ["LogHandler"]
