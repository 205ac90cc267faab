"""Docstrings are laid out for a terminal; the API page is Markdown, which would join their lines.

Lines in columns become blocks, and what is said of each parameter a paragraph of its own.  Done here, not in the
sources: a changed docstring there would re-run every job that hashes its module.
"""

import re
from typing import Any

import griffe

COLUMNS = re.compile(r"\w+(?:, \w+)* {2,}\S")  # a word, or some with commas, then a gap
PARAMETERS = re.compile(r"\w+(?:, \w+)*: ")


def for_markdown(text: str) -> str:
    lines, before = list[str](), ""
    for line in text.split("\n"):
        if COLUMNS.match(line):
            lines += [f"    {line}"] if COLUMNS.match(before) else ["", f"    {line}"]
        elif PARAMETERS.match(line) and before:
            lines += ["", line]
        else:
            lines.append(line)
        before = line
    return "\n".join(lines)


class Layout(griffe.Extension):
    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = for_markdown(obj.docstring.value)
