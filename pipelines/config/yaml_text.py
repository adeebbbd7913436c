"""YAML that a user writes, read with limits: nothing that its tags name is made, and no short text takes long."""

from __future__ import annotations

from typing import Any

import yaml

from pipelines.errors import ConfigError

MAX_DEPTH = 50
"""Collections within collections."""

MAX_NODES = 1_000_000
"""Keys and values, those that an alias stands for counted each time."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is there twice, of which YAML would take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
                seen.add(key.value)
        result: dict[Any, Any] = super().construct_mapping(node, deep)
        return result


def read_yaml(text: str, where: str) -> Any:
    """The value of a text, which may be empty; `where` it was found is for messages.

    Raises:
        ConfigError: If it is not YAML, holds a key twice, or is deeper or larger than any configuration.
    """
    try:
        _check_size(text, where)
        return yaml.load(text, _Loader)  # as safe as SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for dates that there are not
        raise ConfigError(f"{where}: expected YAML; {_describe(error)}") from error


def _describe(error: Exception) -> str:
    """What was found, and where, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"found {' '.join(str(error).split())}"
    return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"


def _check_size(text: str, where: str) -> None:
    """Counts what a text stands for without making it."""
    sizes: dict[str, int] = {}  # by anchor
    open_nodes: list[tuple[str | None, int]] = []  # the anchor of each collection that is open, and its size so far
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH:
                line = event.start_mark.line + 1
                raise ConfigError(f"{where}: expected at most {MAX_DEPTH} levels; found more in line {line}")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if open_nodes:
            open_nodes[-1] = (open_nodes[-1][0], open_nodes[-1][1] + size)
        if size > MAX_NODES:
            raise ConfigError(f"{where}: expected at most {MAX_NODES:,} keys and values; found {size:,}")
