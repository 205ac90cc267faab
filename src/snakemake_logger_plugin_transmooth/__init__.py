"""The name by which `snakemake --logger transmooth` finds transmooth's terminal."""

from transmooth.watch import LogHandler

__all__ = ["LogHandler"]
