"""YAML as params are written: one mapping, each key once, plain values and nothing that executes."""

from typing import Any

import yaml

MOST = 100_000  # values in a file, those that aliases repeat counted again


class YamlError(ValueError):
    """Text that is no such YAML.  The message is one line and names the place in the text where there is one."""


def load(text: str) -> dict[Any, Any]:
    """Return the mapping that a text holds.  Raises YamlError."""
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(where + ", ".join(filter(None, (error.context, error.problem)))) from error
    except RecursionError:
        raise YamlError("nested too deeply") from None
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except Exception as error:  # PyYAML passes on whatever Python raises for such a value
        raise YamlError(f"a value that is not of its kind: {error}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise YamlError(f"should be a mapping of keys to values, found {found}")
    _check_size(content)
    return content


class _Loader(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *alias`, whose keys stand behind the node's own
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float):
                raise _fault(key_node, f"a key should be a word, found {key!r}")
            if key in seen:
                raise _fault(key_node, f"the key {key!r} is there twice")
            seen.add(key)
        return dict(super().construct_mapping(node, deep))

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        # "\0" and half a surrogate pair can be written in YAML, but not be handed to a job or put into a file.
        if isinstance(value, str) and not all(each.isprintable() or each in "\n\t" for each in value):
            raise _fault(node, f"should be printable text, found {value!r}")
        return value


def _fault(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


def _check_size(content: dict[Any, Any]) -> None:
    """Aliases can make a short file endless, or huge: each is the same object here, but would be written out later."""
    count, rest = 0, [content]
    while rest:
        part = rest.pop()
        if isinstance(part, dict | list):
            count += len(part)
            rest.extend(part.values() if isinstance(part, dict) else part)
        if count > MOST:
            raise YamlError(f"holds more than {MOST} values: an alias (*name) that holds itself, or too many of them")
