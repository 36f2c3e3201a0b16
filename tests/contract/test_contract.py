# SPDX-License-Identifier: Apache-2.0
"""veilnet/contract.py against bpf/contract.h: by the generator, and by what the compiler lays out."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from tools import gen_contract
from tools.gen_contract import ContractError, parse
from veilnet import contract as c
from veilnet.loader import program

HEADER = gen_contract.SOURCE
GUARD = "#ifndef VEIL_CONTRACT_H\n#define VEIL_CONTRACT_H\n"
PROBE = "\nint probe(struct xdp_md *ctx) {{ return {size}; }}\n"


def _asserts(struct: str, view: type[ctypes.LittleEndianStructure]) -> list[str]:
    """What the compiler must agree to: every field that Python knows, at its offset, of its size."""
    lines = [f'_Static_assert(sizeof(struct {struct}) == {ctypes.sizeof(view)}, "{struct}");']
    for name, *_ in view._fields_:
        descriptor = getattr(view, name)
        member = f"{struct}.{name}"
        lines.append(
            f"_Static_assert(__builtin_offsetof(struct {struct}, {name}) == {descriptor.offset} && "
            f'sizeof(((struct {struct} *)0)->{name}) == {descriptor.size}, "{member}");'
        )
    return lines


def _compile(tmp_path: Path, lines: list[str], header: Path = HEADER) -> None:
    source = tmp_path / "probe.c"
    text = [f'#include <uapi/linux/bpf.h>\n#include "{header}"', *lines]
    source.write_text("\n".join(text) + PROBE.format(size=2))
    program.load(str(source), tmp_path).close()


def _covers(view: type[ctypes.LittleEndianStructure]) -> bool:
    """Whether the fields fill the structure without a gap: then no field can be missing."""
    end = 0
    for name, *_ in view._fields_:
        descriptor = getattr(view, name)
        if descriptor.offset != end:
            return False
        end += descriptor.size
    return end == ctypes.sizeof(view)


def test_generated_file_is_up_to_date() -> None:
    assert gen_contract.main(["--check"]) == 0


@pytest.mark.root
def test_compiler_agrees_with_every_field_and_constant(tmp_path: Path) -> None:
    lines = [line for struct, view in c.STRUCTS.items() for line in _asserts(struct, view)]
    constants = {n: v for n, v in vars(c).items() if n.isupper() and isinstance(v, int)}
    assert constants["OVERHEAD4"] == 68
    lines += [f'_Static_assert(VEIL_{name} == {value}, "{name}");' for name, value in constants.items()]
    _compile(tmp_path, lines)


def test_python_knows_every_name_of_the_header() -> None:
    text = HEADER.read_text()
    assert set(re.findall(r"^struct (\w+) \{", text, re.M)) == set(c.STRUCTS)
    defines = set(re.findall(r"^#define VEIL_(\w+)[ \t]+\S", text, re.M)) - {"CONTRACT_H"}
    assert defines - set(vars(c)) == set()
    reasons = re.findall(r"^\tX\((\w+), (\w+), ", text, re.M)
    assert [(name, c.REASON_CLASS[name]) for name in c.REASONS] == reasons
    assert all(_covers(view) for view in c.STRUCTS.values())


@pytest.mark.root
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("__u32 tx_slot; /* keyd: slot to send with */", "__u32 tx_slot2;"),
        ("\t__u32 rx_hint; /* BPF: slot that verified last */\n\t__u32 tx_slot;", "\t__u32 tx_slot;\n\t__u32 rx_hint;"),
        ("__u32 ifindex;	 /* keyd: NIC of this link */\n\t__u32 pad[5];", "__u32 ifindex, only_c;\n\t__u32 pad[4];"),
    ],
    ids=["renamed", "swapped", "only C knows it"],
)
def test_compiler_notices_a_header_that_moved(tmp_path: Path, old: str, new: str) -> None:
    text = HEADER.read_text()
    assert old in text
    changed = tmp_path / "contract.h"
    changed.write_text(text.replace(old, new))
    with pytest.raises(program.ProgramError, match=r"static[_ ]assert|no member"):
        _compile(tmp_path, _asserts("veil_link", c.Link), changed)


@pytest.mark.root
def test_field_only_python_knows_is_a_gap_in_the_check(tmp_path: Path) -> None:
    class Extra(ctypes.LittleEndianStructure):
        _fields_ = (("state", ctypes.c_uint32), ("wide", ctypes.c_uint64))

    assert not _covers(Extra)
    with pytest.raises(program.ProgramError, match="wide"):
        _compile(tmp_path, _asserts("veil_link", Extra))


def test_check_prints_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = tmp_path / "contract.h"
    changed.write_text(HEADER.read_text().replace("VEIL_LANE_CONTROL 255", "VEIL_LANE_CONTROL 254"))
    assert gen_contract.main(["--check", "--source", str(changed)]) == 1
    assert "+LANE_CONTROL = 254" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("struct veil_a { __u8 a; __u32 b; };", "implicit padding before b"),
        ("struct veil_a { __u64 a; __u8 b; };", "implicit padding at its end"),
        ("struct veil_a { int a; };", "unknown field"),
        ("struct veil_a { __s32 a; };", "unknown type __s32"),
        ("struct veil_a { struct veil_b a; };", "unknown struct veil_b"),
        ("struct veil_a { __u32 a; __u32 a; };", "named twice"),
        ("struct veil_a { __u32 a : 3; };", "unknown field"),
        ("struct veil_a { __u32 *a; };", "unknown field"),
        ("struct veil_a { __u32 a[VEIL_N]; };", "cannot evaluate 'VEIL_N'"),
        ("struct veil_a { __u32 a; } __attribute__((packed));", "unknown declaration"),
        ("typedef int veil_t;", "unknown declaration"),
        ("#pragma pack(1)", "unknown directive"),
        ("#define VEIL_A 1\n#define VEIL_A 2", "defined twice"),
        ("#define VEIL_A sizeof(int)", "cannot evaluate"),
        ('struct veil_a { __u32 a; };\n_Static_assert(sizeof(struct veil_a) == 8, "a");', "does not hold"),
        ('#define VEIL_REASONS(X) X(A, MAYBE, "a")', "not a reason"),
        ('#define VEIL_REASONS(X) X(A, OK, "a") X(A, OK, "b")', "named twice"),
    ],
)
def test_generator_refuses(body: str, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        parse(f"{GUARD}{body}\n#endif\n")


def test_hash_covers_layout_not_comments() -> None:
    text = HEADER.read_text()
    assert parse(text).schema_hash == c.SCHEMA_HASH
    assert parse(text.replace("/* bits of addr */", "/* other words */")).schema_hash == c.SCHEMA_HASH
    assert parse(text.replace("VEIL_SCHEMA 1", "VEIL_SCHEMA 2")).schema_hash != c.SCHEMA_HASH


def test_two_dimensions_and_byte_order() -> None:
    link = c.Link()
    link.win[1][2] = 0x0102030405060708
    link.addrs.rport = 51820
    raw = bytes(link)
    at = c.Link.win.offset + 8 * (c.LINK_WIN_WORDS + 2)  # type: ignore[attr-defined]
    assert raw[at : at + 8] == bytes.fromhex("0807060504030201")
    assert raw[352:354] == (51820).to_bytes(2, "big")  # line 5, after the two addresses
