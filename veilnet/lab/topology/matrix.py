# SPDX-License-Identifier: Apache-2.0
"""Latency matrices: a CSV with named rows and columns, or an array of an npz file. Values are milliseconds."""

from __future__ import annotations

import ast
import csv
import io
import math
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

_DTYPES = {"<u2": "H", "<f4": "f", "<f8": "d", "<u4": "I", "<i4": "i", "<i8": "q"}


class MatrixError(ValueError):
    """The file is no square matrix without holes; the message says what is wrong and where."""


@dataclass(frozen=True)
class Matrix:
    """Milliseconds from row to column."""

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]

    def between(self, first: str, second: str) -> float:
        """Raises MatrixError for a name that there is not, and for a hole."""
        value = self.rows[self._index(first)][self._index(second)]
        if not (math.isfinite(value) and value > 0):
            raise MatrixError(f"hole: no latency from {first} to {second}")
        return value

    def _index(self, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            some = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
            raise MatrixError(f"no row {name!r}; there are {some}") from None


def from_csv(data: bytes) -> Matrix:
    """First line: a word, then the columns' names. Every other line: the row's name, then its values. `#` comments.

    An empty cell is a hole; the diagonal is not looked at. Raises MatrixError.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MatrixError("not a CSV file in UTF-8") from error
    lines = [line for line in csv.reader(io.StringIO(text)) if line and not line[0].lstrip().startswith("#")]
    if not lines:
        raise MatrixError("empty file")
    names = tuple(cell.strip() for cell in lines[0][1:])
    rows = tuple(_row(line, len(names)) for line in lines[1:])
    found = tuple(line[0].strip() for line in lines[1:])
    if found != names:
        raise MatrixError(f"not square: columns are {', '.join(names)}, rows are {', '.join(found)}")
    if len(set(names)) != len(names):
        raise MatrixError("two rows of one name")
    return Matrix(names, rows)


def _row(line: Sequence[str], count: int) -> tuple[float, ...]:
    name = line[0].strip()
    if len(line) - 1 != count:
        raise MatrixError(f"not square: row {name} has {len(line) - 1} values, there are {count} columns")
    try:
        return tuple(float(cell) if cell.strip() else math.nan for cell in line[1:])
    except ValueError as error:
        raise MatrixError(f"row {name}: {error}") from error


def from_npz(data: bytes, array: str, slot: int) -> Matrix:
    """Array of shape (n, n) or (slots, n, n) of an npz file, of which one slot is read. Rows are named 0, 1, ...

    0 and NaN are holes. The format is numpy's NPY 1.0 in a zip file. Raises MatrixError.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            body = archive.read(f"{array}.npy")
    except (zipfile.BadZipFile, KeyError) as error:
        raise MatrixError(f"no array {array!r} in an npz file: {error}") from error
    if body[:6] != b"\x93NUMPY" or body[6] != 1:
        raise MatrixError(f"array {array!r} is not in NPY format 1.0")
    (length,) = struct.unpack_from("<H", body, 8)
    header = ast.literal_eval(body[10 : 10 + length].decode("latin-1"))
    shape, code = header["shape"], _DTYPES.get(header["descr"])
    if code is None:
        raise MatrixError(f"array {array!r} has type {header['descr']}; known: {', '.join(_DTYPES)}")
    if len(shape) not in {2, 3} or shape[-1] != shape[-2]:
        raise MatrixError(f"not square: array {array!r} has shape {shape}")
    size, slots = shape[-1], 1 if len(shape) == 2 else shape[0]
    if slot >= slots:
        raise MatrixError(f"no slot {slot}; array {array!r} has {slots}")
    values = struct.unpack_from(f"<{slots * size * size}{code}", body, 10 + length)
    steps = (1, slots, slots * size) if header["fortran_order"] else (size * size, size, 1)
    rows = tuple(
        tuple(float(values[slot * steps[0] + row * steps[1] + column * steps[2]]) for column in range(size))
        for row in range(size)
    )
    return Matrix(tuple(map(str, range(size))), rows)


def one_way_ms(matrix: Matrix, first: str, second: str, *, rtt: bool) -> tuple[float, float]:
    """Delays of both directions. A round trip is halved and has to be the same both ways. Raises MatrixError."""
    there, back = matrix.between(first, second), matrix.between(second, first)
    if not rtt:
        return there, back
    if there != back:
        raise MatrixError(
            f"asymmetric: {there:g} ms from {first} to {second}, {back:g} ms back, which no round trip can be; "
            "say `values: one-way` if these are one-way delays"
        )
    return there / 2, there / 2
