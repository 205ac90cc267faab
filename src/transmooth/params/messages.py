"""What is said of params that cannot be used: one line for each fault, which names the file and the key."""

import re
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

_M = TypeVar("_M", bound=BaseModel)


class ParamsError(ValueError):
    """Params that cannot be used.  The message names the file, the key, what was found and what is allowed."""


def validate(model: type[_M], content: Mapping[str, Any], file: str) -> _M:
    """Return the content as a checked model.

    Raises ParamsError with one line for each fault, which begins with `file`.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A list whose only element is at fault is also too short "after validation": that tells nothing more.
        relevant = [detail for detail in error.errors() if detail["type"] != "too_short" or not detail["input"]]
        lines = [_explain(detail, file) for detail in relevant]
        raise ParamsError("\n".join(lines)) from None


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


def _explain(detail: Any, file: str) -> str:
    loc = detail["loc"]
    # A union puts the kind that it chose into the location, a checked mapping a marker: neither is in the file.
    places = [part for at, part in enumerate(loc) if part != "[key]" and not _is_tag(loc, at)]
    words = [part if isinstance(part, int) or part.isprintable() else repr(part) for part in places]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in words).lstrip(".")
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    message = re.sub(r"a valid dictionary( or instance of \w+)?", "a mapping", message)
    message = message.replace("input was not a valid JSON value", "should be text, a number, a list or a mapping")
    message = message.replace("a valid tuple", "a list, such as [0.1, 0.2]").replace("Tuple should", "list should")
    if detail["type"] == "extra_forbidden":
        return f"{file}: {key}: unknown key"
    if detail["type"] == "missing":
        return f"{file}: {key}: missing"
    if detail["type"] == "union_tag_not_found":
        return f"{file}: {key}.kind: missing"
    if detail["type"] == "union_tag_invalid":
        context = detail["ctx"]
        return f"{file}: {key}.kind: should be one of {context['expected_tags']}, found {context['tag']!r}"
    found = detail["input"]
    shown = "" if "found" in message or isinstance(found, dict | BaseModel) else f", found {_SHORT.repr(found)}"
    return f"{file}: {key}: {message}{shown}" if key else f"{file}: {message}{shown}"


def _is_tag(loc: tuple[Any, ...], at: int) -> bool:
    """Return whether a part of a location is the kind that a union chose."""
    above = loc[:at]
    return (
        above == ("source",)
        or (len(above) == 3 and above[0::2] == ("datasets", "source"))
        or (len(above) == 2 and above[0] == "evaluations")
    )
