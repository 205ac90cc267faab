"""Transfer learning for certified robustness by randomized smoothing.

    transmooth.certify(model, images, labels, sigma=0.5)     # a DataFrame, one row per image
    transmooth.SmoothedClassifier(model, sigma=0.5)          # the same as a module: predict, certify
    transmooth.choose_sigma(model, images, labels, [0.25, 0.5, 1.0])

Torch is imported when one of these is first used.
"""

import sys
from types import ModuleType
from typing import Any

import transmooth.certify as _package

__version__ = "0.1.0"
__all__ = ["SmoothedClassifier", "certify", "choose_sigma"]


class _CallablePackage(ModuleType):
    """Importing any of transmooth.certify's modules binds the package to the name `transmooth.certify`: the function
    of that name can only live on by the package being called."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        from transmooth import smoothed

        return smoothed.certify(*arguments, **settings)


sys.modules["transmooth.certify"].__class__ = _CallablePackage
certify = _package


def __getattr__(name: str) -> Any:
    if name in ("SmoothedClassifier", "choose_sigma"):
        from transmooth import smoothed

        return getattr(smoothed, name)
    raise AttributeError(f"module 'transmooth' has no attribute {name!r}")
