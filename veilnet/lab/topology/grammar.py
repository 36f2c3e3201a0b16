# SPDX-License-Identifier: Apache-2.0
"""Types that a file's values can have. Each checks an item, and writes its part of the JSON schema."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Protocol

from veilnet.lab.topology.items import Item


class Type(Protocol):
    def check(self, item: Item) -> None:
        """Raises TopologyError (structural) unless the item has this type, all its parts included."""

    def schema(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Text:
    pattern: str
    what: str
    """The sentence that a refusal ends with."""

    def check(self, item: Item) -> None:
        if not isinstance(item.value, str) or not re.match(self.pattern.replace("$", r"\Z"), item.value):
            raise item.error(self.what, structural=True)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": self.pattern, "description": self.what}


@dataclass(frozen=True)
class Choice:
    values: tuple[str, ...]

    def check(self, item: Item) -> None:
        if item.value not in self.values:
            raise item.error(f"one of {', '.join(self.values)}", structural=True)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


@dataclass(frozen=True)
class Integer:
    low: int
    high: int
    what: str = "a whole number"

    def check(self, item: Item) -> None:
        value = item.value
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not self.low <= item.number <= self.high:
            raise item.error(f"{self.what} from {self.low} to {self.high}", structural=True)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high, "description": self.what}


@dataclass(frozen=True)
class Boolean:
    def check(self, item: Item) -> None:
        if not isinstance(item.value, bool):
            raise item.error("true or false", structural=True)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Sequence:
    of: Type
    what: str
    low: int = 0
    high: int | None = None

    def check(self, item: Item) -> None:
        if not isinstance(item.value, list):
            raise item.error(self.what, structural=True)
        if len(item.elements) < self.low or (self.high is not None and len(item.elements) > self.high):
            raise item.error(self.what, structural=True)
        for element in item.elements:
            self.of.check(element)

    def schema(self) -> dict[str, Any]:
        bounds = {"minItems": self.low} | ({} if self.high is None else {"maxItems": self.high})
        return {"type": "array", "items": self.of.schema(), "description": self.what} | bounds


@dataclass(frozen=True)
class Mapping:
    """Words of one kind to values of one type."""

    key: Text
    of: Type

    def check(self, item: Item) -> None:
        require_mapping(item)
        for name, value in item.entries.items():
            self.key.check(item.keys[name])
            self.of.check(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "propertyNames": self.key.schema(), "additionalProperties": self.of.schema()}


@dataclass(frozen=True)
class Record:
    """Named fields, each of a type of its own; maybe further ones whose names follow a pattern."""

    required: dict[str, Type]
    optional: dict[str, Type] = field(default_factory=dict)
    further: tuple[str, Type] | None = None

    def check(self, item: Item) -> None:
        require_mapping(item)
        known = self.required | self.optional
        for name, value in item.entries.items():
            kind = known.get(name) or self._further(name)
            if kind is None:
                why = f"unknown key {name!r}; known: {', '.join(known)}"
                raise item.keys[name].error(why, structural=True)
            kind.check(value)
        for name in self.required:
            if name not in item.entries:
                raise item.error(f"missing key {name!r}", structural=True)

    def _further(self, name: str) -> Type | None:
        if self.further and re.match(self.further[0].replace("$", r"\Z"), name):
            return self.further[1]
        return None

    def schema(self) -> dict[str, Any]:
        known = self.required | self.optional
        body = {
            "type": "object",
            "properties": {name: kind.schema() for name, kind in known.items()},
            "required": list(self.required),
            "additionalProperties": False,
        }
        if self.further:
            body["patternProperties"] = {self.further[0]: self.further[1].schema()}
        return body


@dataclass(frozen=True)
class Tagged:
    """A record whose fields depend on the value of one of them."""

    tag: str
    variants: dict[str, Record]

    def check(self, item: Item) -> None:
        require_mapping(item)
        tag = item.get(self.tag)
        if tag is None:
            raise item.error(f"missing key {self.tag!r}", structural=True)
        Choice(tuple(self.variants)).check(tag)
        self.variants[tag.text].check(item)

    def schema(self) -> dict[str, Any]:
        return {"oneOf": [record.schema() for record in self.variants.values()]}


@dataclass(frozen=True)
class Either:
    """A list in short, or a mapping in full; told apart by what the file has."""

    short: Sequence | Text
    full: Mapping | Record

    def check(self, item: Item) -> None:
        kind: Type = self.full if isinstance(item.value, dict) else self.short
        kind.check(item)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.short.schema(), self.full.schema()]}


def require_mapping(item: Item) -> None:
    if not isinstance(item.value, dict):
        raise item.error("a mapping", structural=True)
