"""Certification of one classifier of several sigmas: the jobs of `certify`, with another spec."""

from transmooth.evaluation.certify import finish, run

__all__ = ["finish", "run"]
