"""Transfer learning for certified robustness by randomized smoothing.

    transmooth.certify(model, images, labels, sigma=0.5)     # a DataFrame, one row per image
    transmooth.SmoothedClassifier(model, sigma=0.5)          # the same as a module: predict, certify
    transmooth.choose_sigma(model, images, labels, [0.25, 0.5, 1.0])
    transmooth.attack(model, images, labels, epsilon=0.5)    # and an upper bound, by searching
    transmooth.choose_stages(model, images, labels, [1.0, 0.5, 0.25])

Torch is imported when one of these is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transmooth.smoothing.attack import attack
    from transmooth.smoothing.smoothed import SmoothedClassifier, certify, choose_sigma, choose_stages

__version__ = "0.1.0"
__all__ = ["SmoothedClassifier", "attack", "certify", "choose_sigma", "choose_stages"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from transmooth.smoothing import attack, smoothed

        return getattr(attack if name == "attack" else smoothed, name)
    raise AttributeError(f"module 'transmooth' has no attribute {name!r}")
