# SPDX-License-Identifier: Apache-2.0
"""Turn `bpf/contract.h` into `veilnet/contract.py`, or check (`--check`) that the latter is up to date. The lab's
translator has a contract of its own, `veilnet/lab/nat/layout.h`, made into `layout.py` beside it.

The header is a small subset of C: integer #defines, structs of fixed-width fields, the X-macro VEIL_REASONS, the enum
made of it, and _Static_asserts. Whatever is not of that subset is refused, and so is any implicit padding, so that
nothing can be laid out by the compiler in a way that Python does not see.

    python tools/gen_contract.py            write both modules
    python tools/gen_contract.py --check    exit 1 and print a diff if one differs
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import operator
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "bpf" / "contract.h"
TARGET = ROOT / "veilnet" / "contract.py"
LAB_NAT = ROOT / "veilnet" / "lab" / "nat"
PAIRS = ((SOURCE, TARGET), (LAB_NAT / "layout.h", LAB_NAT / "layout.py"))

SCALARS = {  # C type → (bytes, ctypes expression)
    "__u8": (1, "ctypes.c_uint8"),
    "__u16": (2, "ctypes.c_uint16"),
    "__u32": (4, "ctypes.c_uint32"),
    "__u64": (8, "ctypes.c_uint64"),
    "__be16": (2, "_be16"),
    "__be32": (4, "_be32"),
}


class ContractError(Exception):
    """The header is outside the subset, or lays something out implicitly."""


@dataclass(frozen=True)
class Field:
    name: str
    ctype: str
    dims: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Struct:
    name: str
    fields: tuple[Field, ...]
    size: int
    align: int


@dataclass(frozen=True)
class Reason:
    name: str
    klass: str
    text: str


@dataclass
class Contract:
    constants: dict[str, int] = field(default_factory=dict)
    structs: dict[str, Struct] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    schema_hash: str = ""


# ---- C subset → Contract ------------------------------------------------------------------------------------------

_OPS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
}


def evaluate(text: str, contract: Contract) -> int:
    """Value of an integer expression of names, literals, sizeof(struct x) and + - * << |."""
    text = re.sub(r"sizeof\(struct (\w+)\)", lambda m: str(_struct(contract, m[1]).size), text)
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ContractError(f"not an integer expression: {text!r}") from error

    def walk(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int() as value):
                return value
            case ast.Name(id=name) if name in contract.constants:
                return contract.constants[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPS:
                return _OPS[type(op)](walk(left), walk(right))
        raise ContractError(f"cannot evaluate {ast.unparse(node)!r} in {text!r}")

    return walk(tree)


def normalise(source: str) -> str:
    """The header without comments and continuation lines, blanks collapsed: what the schema hash covers."""
    source = re.sub(r"/\*.*?\*/", " ", source, flags=re.S).replace("\\\n", " ")
    lines = (re.sub(r"\s+", " ", line).strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def parse(source: str) -> Contract:
    """Parse a whole contract header; raises ContractError for anything outside the subset."""
    text = normalise(source)
    contract = Contract(schema_hash=hashlib.sha256(text.encode()).hexdigest()[:16])
    code: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            _declarations(" ".join(code), contract)
            code = []
            _directive(line, contract)
        else:
            code.append(line)
    _declarations(" ".join(code), contract)
    return contract


def _directive(line: str, contract: Contract) -> None:
    if re.fullmatch(r"#ifndef VEIL_\w+_H|#define VEIL_\w+_H|#endif", line):
        return
    if line.startswith("#define VEIL_REASONS(X) "):
        contract.reasons = _reasons(line.removeprefix("#define VEIL_REASONS(X) "))
    elif line == "#define VEIL_REASON_ENUM(name, klass, text) VEIL_##name,":
        return
    elif m := re.fullmatch(r"#define (VEIL_\w+) (.+)", line):
        _constant(contract, m[1], evaluate(m[2], contract))
    else:
        raise ContractError(f"unknown directive: {line!r}")


def _constant(contract: Contract, name: str, value: int) -> None:
    if name in contract.constants:
        raise ContractError(f"{name} defined twice")
    contract.constants[name] = value


def _reasons(text: str) -> list[Reason]:
    entry = re.compile(r'X\((\w+), (OK|PASS|DROP), "([^"]*)"\) ?')
    reasons: list[Reason] = []
    while text:
        m = entry.match(text)
        if m is None:
            raise ContractError(f"not a reason: {text[:60]!r}")
        reasons.append(Reason(m[1], m[2], m[3]))
        text = text[m.end() :]
    if len({r.name for r in reasons}) != len(reasons):
        raise ContractError("a reason is named twice")
    return reasons


def _declarations(text: str, contract: Contract) -> None:
    struct = re.compile(r"struct (\w+) \{([^{}]*)\}; ?")
    enum = re.compile(r"enum veil_reason \{ VEIL_REASONS\(VEIL_REASON_ENUM\) VEIL_REASON_MAX \}; ?")
    check = re.compile(r'_Static_assert\((.+?) == (.+?), "[^"]*"\); ?')
    while text:
        if m := struct.match(text):
            if m[1] in contract.structs:
                raise ContractError(f"struct {m[1]} defined twice")
            contract.structs[m[1]] = _layout(m[1], m[2], contract)
        elif m := enum.match(text):
            for number, name in enumerate([*(r.name for r in contract.reasons), "REASON_MAX"]):
                _constant(contract, f"VEIL_{name}", number)
        elif m := check.match(text):
            if evaluate(m[1], contract) != evaluate(m[2], contract):
                raise ContractError(f"does not hold: {m[0]}")
        else:
            raise ContractError(f"unknown declaration: {text[:60]!r}")
        text = text[m.end() :]


def _layout(name: str, body: str, contract: Contract) -> Struct:
    fields: list[Field] = []
    offset, alignment = 0, 1
    for decl in filter(None, (part.strip() for part in body.split(";"))):
        m = re.fullmatch(r"(__\w+|struct \w+) (\w+)((?:\[\w+\])*)", decl)
        if m is None:
            raise ContractError(f"struct {name}: unknown field {decl!r}")
        unit, align = _unit(m[1], contract)
        dims = tuple(evaluate(d, contract) for d in re.findall(r"\[(\w+)\]", m[3]))
        if offset % align:
            raise ContractError(f"struct {name}: implicit padding before {m[2]}")
        size = unit
        for dim in dims:
            size *= dim
        fields.append(Field(m[2], m[1], dims, offset, size))
        offset, alignment = offset + size, max(alignment, align)
    if offset % alignment:
        raise ContractError(f"struct {name}: implicit padding at its end")
    if len({f.name for f in fields}) != len(fields):
        raise ContractError(f"struct {name}: a field is named twice")
    return Struct(name, tuple(fields), offset, alignment)


def _struct(contract: Contract, name: str) -> Struct:
    if name not in contract.structs:
        raise ContractError(f"unknown struct {name}")
    return contract.structs[name]


def _unit(ctype: str, contract: Contract) -> tuple[int, int]:
    """(size, alignment) of one element."""
    if ctype.startswith("struct "):
        struct = _struct(contract, ctype.removeprefix("struct "))
        return struct.size, struct.align
    if ctype not in SCALARS:
        raise ContractError(f"unknown type {ctype}")
    return SCALARS[ctype][0], SCALARS[ctype][0]


# ---- Contract → Python ---------------------------------------------------------------------------------------------


def class_name(struct: str) -> str:
    """`veil_link_rx` → `LinkRx`."""
    return "".join(part.capitalize() for part in struct.removeprefix("veil_").split("_"))


def _ctypes_name(ctype: str) -> str:
    return class_name(ctype.removeprefix("struct ")) if ctype.startswith("struct ") else SCALARS[ctype][1]


def _annotation(f: Field) -> str:
    if not f.dims:
        return _ctypes_name(f.ctype) if f.ctype.startswith("struct ") else "int"
    element = {"_be16": "ctypes.c_uint16", "_be32": "ctypes.c_uint32"}.get(_ctypes_name(f.ctype), _ctypes_name(f.ctype))
    for _ in f.dims:
        element = f"ctypes.Array[{element}]"
    return element


def _render_struct(struct: Struct) -> list[str]:
    lines = ["", "", f"class {class_name(struct.name)}(ctypes.LittleEndianStructure):"]
    lines += [f'    """`struct {struct.name}`, {struct.size} bytes."""', ""]
    lines += [f"    {f.name}: {_annotation(f)}" for f in struct.fields]
    lines += ["    _fields_ = ["]
    for f in struct.fields:
        # C's a[2][64] is two rows of 64, ctypes' is c * 64 * 2
        dims = "".join(f" * {d}" for d in reversed(f.dims))
        lines.append(f'        ("{f.name}", {_ctypes_name(f.ctype)}{dims}),')
    return [*lines, "    ]"]


_HEAD = '''# SPDX-License-Identifier: Apache-2.0
"""GENERATED from %(source)s by tools/gen_contract.py. Do not edit.

Constants carry their C name without VEIL_. Structures are those of the header; `__be` fields are read and written as
plain integers, ctypes stores them big-endian. REASONS stand in the order of `enum veil_reason`.
"""

from __future__ import annotations

import ctypes

_be16 = ctypes.c_uint16.__ctype_be__
_be32 = ctypes.c_uint32.__ctype_be__
'''


def render(contract: Contract, source: str = "bpf/contract.h") -> str:
    """The text of the Python module."""
    lines = [_HEAD % {"source": source}, f'SCHEMA_HASH = "{contract.schema_hash}"', ""]
    lines += [f"{name.removeprefix('VEIL_')} = {value}" for name, value in contract.constants.items()]
    lines += ["", "REASONS: tuple[str, ...] = ("]
    lines += [f'    "{r.name}",' for r in contract.reasons]
    lines += [")", "REASON_CLASS: dict[str, str] = {"]
    lines += [f'    "{r.name}": "{r.klass}",' for r in contract.reasons]
    lines += ["}", "REASON_TEXT: dict[str, str] = {"]
    lines += [f'    "{r.name}": "{r.text}",' for r in contract.reasons]
    lines += ["}"]
    for struct in contract.structs.values():
        lines += _render_struct(struct)
    lines += ["", "", "STRUCTS: dict[str, type[ctypes.LittleEndianStructure]] = {"]
    lines += [f'    "{name}": {class_name(name)},' for name in contract.structs]
    return "\n".join([*lines, "}", ""])


def update(source: Path, target: Path, *, check: bool) -> int:
    """Write `target`, or compare it (1 if it differs); 2 for a header outside the subset."""
    try:
        name = source.relative_to(ROOT) if source.is_relative_to(ROOT) else source
        text = render(parse(source.read_text()), str(name))
    except ContractError as error:
        print(f"{source}: {error}", file=sys.stderr)
        return 2
    if not check:
        target.write_text(text)
        return 0
    old = target.read_text() if target.exists() else ""
    diff = difflib.unified_diff(old.splitlines(True), text.splitlines(True), str(target), "generated")
    sys.stdout.writelines(diff)
    return int(old != text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--source", type=Path, help="one header of your own")
    parser.add_argument("--target", type=Path, default=TARGET)
    args = parser.parse_args(argv)
    pairs = ((args.source, args.target),) if args.source else PAIRS
    return max(update(source, target, check=args.check) for source, target in pairs)


if __name__ == "__main__":
    raise SystemExit(main())
