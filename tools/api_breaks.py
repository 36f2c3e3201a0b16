# SPDX-License-Identifier: Apache-2.0
"""What a change of docs/openapi.json breaks for callers who were written against the document of before.

A request that was right must stay right, and an answer must keep what a caller may rely on. New operations, new
optional parameters and fields, wider limits and further values of an answer's enumeration break nothing (docs/api.md
says so to callers). An operation may go once it was deprecated and its sunset has passed.

    python tools/api_breaks.py            the committed document, or the changed one, against the version before
    python tools/api_breaks.py REF        against docs/openapi.json of that git revision
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = "docs/openapi.json"
ACCEPTED = "docs/api.md"
"""Where breaks that were meant stand, each line between backticks in the section `Breaking changes`."""
UPPER = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")
LOWER = ("minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties")
Json = dict[str, Any]
Parameters = dict[tuple[str, str], Json]
"""(where, name) → parameter."""


def breaks(old: Json, new: Json, today: date) -> list[str]:
    """One line for each thing that breaks; the same documents always give the same lines."""
    return sorted(set(_Comparison(old, new, today).run()))


@dataclass
class _Comparison:
    old: Json
    new: Json
    today: date
    _under_way: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> Iterator[str]:
        before, after = dict(_operations(self.old)), dict(_operations(self.new))
        for key, operation in before.items():
            name = f"{key[0]} {operation['path']}"
            if key in after:
                yield from self._operation(name, operation, after[key])
            elif not self._has_ended(operation):
                yield f"{name}: removed"

    def _has_ended(self, operation: Json) -> bool:
        ends = operation.get("x-sunset")
        return bool(operation.get("deprecated") and ends and date.fromisoformat(ends) <= self.today)

    def _operation(self, name: str, old: Json, new: Json) -> Iterator[str]:
        for key in ("operationId", "x-required-scope"):
            if old.get(key) != new.get(key):
                yield f"{name}: {key} {old.get(key)} became {new.get(key)}"
        yield from self._parameters(name, _parameters(old), _parameters(new))
        yield from self._body(name, old.get("requestBody"), new.get("requestBody"))
        yield from self._answers(name, old["responses"], new["responses"])

    # ---- what callers send -----------------------------------------------------------------------------------------

    def _parameters(self, name: str, old: Parameters, new: Parameters) -> Iterator[str]:
        for key, parameter in old.items():
            where = f"{name}: {key[0]} parameter {key[1]}"
            if key not in new:
                yield f"{where}: removed"
                continue
            if new[key].get("required") and not parameter.get("required"):
                yield f"{where}: became required"
            yield from self._narrower(where, parameter["schema"], new[key]["schema"])
        for key in new.keys() - old.keys():
            if new[key].get("required"):
                yield f"{name}: {key[0]} parameter {key[1]}: new and required"

    def _body(self, name: str, old: Json | None, new: Json | None) -> Iterator[str]:
        if old is None:
            if new is not None and new.get("required"):
                yield f"{name}: needs a body now"
            return
        if new is None:
            yield f"{name}: takes no body any more"
            return
        if new.get("required") and not old.get("required"):
            yield f"{name}: body became required"
        for media, content in old["content"].items():
            if media not in new["content"]:
                yield f"{name}: body of {media} removed"
            else:
                yield from self._narrower(f"{name}: body", content.get("schema", {}), new["content"][media]["schema"])

    def _narrower(self, where: str, old: Json, new: Json) -> Iterator[str]:
        """What was accepted and is not any more."""
        old, new = _resolved(old, self.old), _resolved(new, self.new)
        with self._comparing(old, new) as fresh:
            several = _alternatives(new, self.new)
            for one in _alternatives(old, self.old) if fresh else ():
                found = [list(self._narrower_one(where, one, other)) for other in several]
                yield from min(found, key=len)

    def _narrower_one(self, where: str, old: Json, new: Json) -> Iterator[str]:
        if not _types(old) <= _types(new):
            yield f"{where}: no longer takes {_said(old)}"
            return
        if lost := [value for value in _values(old) or () if value not in (_values(new) or [value])]:
            yield f"{where}: no longer takes {', '.join(map(repr, lost))}"
        if _values(new) is not None and _values(old) is None:
            yield f"{where}: takes only {_values(new)} now"
        yield from _limits(where, old, new)
        for name, inner in old.get("properties", {}).items():
            if name in new.get("properties", {}):
                yield from self._narrower(f"{where}.{name}", inner, new["properties"][name])
            elif new.get("additionalProperties") is False:
                yield f"{where}.{name}: removed"
        for name in set(new.get("required", ())) - set(old.get("required", ())):
            yield f"{where}.{name}: is required now"
        if "items" in old and "items" in new:
            yield from self._narrower(f"{where}[]", old["items"], new["items"])

    # ---- what callers get ------------------------------------------------------------------------------------------

    def _answers(self, name: str, old: Json, new: Json) -> Iterator[str]:
        for status, answer in old.items():
            if not status.startswith("2"):
                continue
            if status not in new:
                yield f"{name}: answer {status} removed"
                continue
            for media, content in answer.get("content", {}).items():
                if media not in new[status].get("content", {}):
                    yield f"{name}: answer {status} of {media} removed"
                else:
                    after = new[status]["content"][media].get("schema", {})
                    yield from self._poorer(f"{name}: answer", content.get("schema", {}), after)

    def _poorer(self, where: str, old: Json, new: Json) -> Iterator[str]:
        """What a caller could rely on and can't any more."""
        old, new = _resolved(old, self.old), _resolved(new, self.new)
        with self._comparing(old, new) as fresh:
            several = _alternatives(old, self.old)
            for one in _alternatives(new, self.new) if fresh else ():
                found = [list(self._poorer_one(where, other, one)) for other in several]
                yield from min(found, key=len)

    def _poorer_one(self, where: str, old: Json, new: Json) -> Iterator[str]:
        if not _types(new) <= _types(old):
            yield f"{where}: may be {_said(new)} now"
            return
        for name, inner in old.get("properties", {}).items():
            if name not in new.get("properties", {}):
                yield f"{where}.{name}: removed"
                continue
            if name in old.get("required", ()) and name not in new.get("required", ()):
                yield f"{where}.{name}: may be missing now"
            yield from self._poorer(f"{where}.{name}", inner, new["properties"][name])
        if "items" in old and "items" in new:
            yield from self._poorer(f"{where}[]", old["items"], new["items"])

    @contextmanager
    def _comparing(self, old: Json, new: Json) -> Iterator[bool]:
        """False for a pair of schemas that is being compared already: they may refer to themselves."""
        key = (id(old), id(new))
        fresh = key not in self._under_way
        self._under_way.add(key)
        yield fresh
        if fresh:
            self._under_way.discard(key)


def _operations(document: Json) -> Iterator[tuple[tuple[str, str], Json]]:
    """By method and path; how a path's variable is called breaks nobody."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield (method.upper(), re.sub(r"{\w+}", "{}", path)), {**operation, "path": path}


def _parameters(operation: Json) -> Parameters:
    return {(item["in"], item["name"]): item for item in operation.get("parameters", ()) if item["in"] != "path"}


def _resolved(schema: Json, document: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _alternatives(schema: Json, document: Json) -> list[Json]:
    several = schema.get("anyOf") or schema.get("oneOf")
    if not several:
        return [schema]
    return [found for item in several for found in _alternatives(_resolved(item, document), document)]


def _types(schema: Json) -> set[str]:
    """JSON types that it takes; an integer is a number, too."""
    kind = schema.get("type")
    found = {kind} if isinstance(kind, str) else set(kind or ())
    if not found and (values := _values(schema)) is not None:
        found = {"null" if value is None else "string" if isinstance(value, str) else "number" for value in values}
    if not found:
        return {"null", "boolean", "string", "number", "integer", "array", "object"}
    return found | {"integer"} if "number" in found else found


def _values(schema: Json) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _said(schema: Json) -> str:
    return "/".join(sorted(_types(schema)))


def _limits(where: str, old: Json, new: Json) -> Iterator[str]:
    for name in (*UPPER, *LOWER):
        if name in new and (name not in old or (new[name] < old[name] if name in UPPER else new[name] > old[name])):
            yield f"{where}: {name} {old.get(name, 'none')} became {new[name]}"
    for name in ("pattern", "format", "multipleOf", "uniqueItems"):
        if new.get(name) not in {None, False, old.get(name)}:
            yield f"{where}: {name} {old.get(name, 'none')} became {new[name]}"


# ---- what to compare with --------------------------------------------------------------------------------------------


def accepted() -> set[str]:
    """Breaks that were meant."""
    _, _, section = (ROOT / ACCEPTED).read_text(encoding="utf-8").partition("## Breaking changes\n")
    return set(re.findall(r"^- `([^`]+)`", section.partition("\n## ")[0], re.MULTILINE))


def earlier(count: int) -> list[tuple[str, Json]]:
    """(commit, document) of the last versions that differ from the file, newest first. Empty without git history."""
    command = ["git", "log", f"-n{count + 1}", "--format=%h", "--", DOCUMENT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    here = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    found = [(commit, text) for commit in done.stdout.split() if (text := version(commit)) not in {here, None}]
    return [(commit, json.loads(text)) for commit, text in found[:count] if text]


def version(commit: str) -> str | None:
    done = subprocess.run(
        ["git", "show", f"{commit}:{DOCUMENT}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref", nargs="?", metavar="REF")
    ref = parser.parse_args().ref
    text = version(ref) if ref else None
    if ref and text is None:
        print(f"no {DOCUMENT} in {ref}", file=sys.stderr)
        return 2
    before = [(ref, json.loads(text))] if text else earlier(1)
    new = json.loads((ROOT / DOCUMENT).read_text(encoding="utf-8"))
    found = {line for _, old in before for line in breaks(old, new, datetime.now(UTC).date())}
    meant = accepted()
    for line in sorted(found):
        print(f"{line}{' (meant)' if line in meant else ''}")
    return 1 if found - meant else 0


if __name__ == "__main__":
    sys.exit(main())
