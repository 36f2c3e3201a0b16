# SPDX-License-Identifier: Apache-2.0
"""A YAML document as values that know their line and path, so that every refusal can name both."""

from __future__ import annotations

from collections.abc import Iterator

import yaml


class TopologyError(ValueError):
    """The file is not a topology; the message starts with file:line and the path of the offending entry.

    `structural` is true where the published JSON schema refuses the file, too; else entries contradict each other.
    """

    def __init__(self, message: str, *, structural: bool = False) -> None:
        super().__init__(message)
        self.structural = structural


class Item:
    """One value of the document: a scalar, a list of items, or a mapping of words to items."""

    def __init__(self, source: str, node: yaml.Node | None, path: str, *, root: bool = False) -> None:
        self.source, self.path, self._root = source, path, root
        self._node = node
        self.value = self._value(node)
        self.keys: dict[str, Item] = {}
        """Of a mapping: the keys as items of their own, for errors about a key."""
        if isinstance(node, yaml.MappingNode):
            self.value = self._mapping(node)

    @classmethod
    def document(cls, text: str, source: str, name: str = "topology") -> Item:
        """The root of a YAML text; `name` is what errors call it. Raises TopologyError."""
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise TopologyError(f"{source}:{line}: not YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise TopologyError(f"{source}:1: not YAML: {error}") from error
        except RecursionError as error:
            raise TopologyError(f"{source}:1: nested too deeply to be a {name}") from error
        _refuse_cycles(source, root, ())
        return cls(source, root, name, root=True)

    def error(self, why: str, *, structural: bool = False) -> TopologyError:
        line = self._node.start_mark.line + 1 if self._node else 1
        return TopologyError(f"{self.source}:{line}: {self.path}: {why}", structural=structural)

    def __getitem__(self, key: str) -> Item:
        return self.entries[key]

    def get(self, key: str) -> Item | None:
        return self.entries.get(key)

    @property
    def entries(self) -> dict[str, Item]:
        assert isinstance(self.value, dict)
        return self.value

    @property
    def elements(self) -> list[Item]:
        assert isinstance(self.value, list)
        return self.value

    @property
    def text(self) -> str:
        assert isinstance(self.value, str)
        return self.value

    @property
    def number(self) -> int:
        assert isinstance(self.value, int | float)
        return int(self.value)

    def _value(self, node: yaml.Node | None) -> object:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [Item(self.source, child, f"{self.path}[{index}]") for index, child in enumerate(node.value)]
        return None

    def _scalar(self, node: yaml.ScalarNode) -> object:
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise self.error(f"{node.value!r} is not a value: {error}") from error

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Item]:
        found: dict[str, Item] = {}
        prefix = "" if self._root else f"{self.path}."
        for key, child in self._pairs(node):
            found[str(key.value)] = Item(self.source, child, f"{prefix}{key.value}")
            self.keys[str(key.value)] = key
        return found

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[Item, yaml.Node]]:
        yaml.SafeLoader("").flatten_mapping(node)
        seen: set[object] = set()
        for key_node, child in node.value:
            key = Item(self.source, key_node, self.path)
            if not isinstance(key.value, str):
                raise key.error("a key is a word; quote it if YAML takes it for something else")
            if key.value in seen:
                raise key.error(f"duplicate key {key.value!r}")
            seen.add(key.value)
            yield key, child


def _refuse_cycles(source: str, node: yaml.Node | None, above: tuple[int, ...]) -> None:
    """YAML lets an alias stand inside what it names; a tree of items can't. Raises TopologyError."""
    if not isinstance(node, yaml.CollectionNode):
        return
    if id(node) in above:
        line = node.start_mark.line + 1
        raise TopologyError(f"{source}:{line}: an alias (*name) stands inside what it names; write the value out")
    inside = (*above, id(node))
    for child in node.value:
        for each in child if isinstance(child, tuple) else (child,):
            _refuse_cycles(source, each, inside)
