# SPDX-License-Identifier: Apache-2.0
"""Compile and load one BPF program. The only importer of bcc."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilnet.loader import compiled, libbpf, pins
from veilnet.loader.headers import use_headers

TYPES = ("xdp", "sched_cls")


class ProgramError(RuntimeError):
    """A program that does not compile, or that the kernel's verifier refuses; the message ends with their log."""


@dataclass
class Program:
    """A loaded program. It lives while an fd, a pin or an attachment refers to it."""

    name: str
    fd: int
    seconds: float
    """Time taken to compile and load."""

    @property
    def id(self) -> int:
        return libbpf.prog_id(self.fd)

    def pin(self, pin_dir: Path) -> None:
        """Pin as prog_<name>, in place of an earlier one."""
        pins.commit_program(pins.stage_program(self.fd, pin_dir, self.name), self.name)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def source_dir() -> Path:
    """Where the BPF sources are: the repository's `bpf/`, or an installed package's `share/veilnet/bpf`."""
    choices = (Path(__file__).parents[2] / "bpf", Path(sys.prefix) / "share/veilnet/bpf")
    for path in choices:
        if (path / "contract.h").is_file():
            return path
    raise ProgramError(f"BPF sources not found, neither in {choices[0]} nor in {choices[1]}")


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Send file descriptor 2 to `path`: clang and the verifier write their logs there, from C."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with path.open("wb") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _compile(source: Path, functions: Sequence[str], prog_type: str, cflags: Sequence[str], key: str) -> list[int]:
    try:
        from bcc import BPF  # noqa: PLC0415  (only who loads programs needs bcc)
    except ImportError as error:
        raise ProgramError("bcc is missing, or this Python can't see it: apt-get install python3-bpfcc") from error
    types = {"xdp": BPF.XDP, "sched_cls": BPF.SCHED_CLS}
    module = BPF(src_file=str(source).encode(), cflags=list(cflags))
    fds: list[int] = []
    try:
        for function in functions:
            fds.append(os.dup(module.load_func(function.encode(), types[prog_type]).fd))
            if key:
                _keep(key, module, function, prog_type)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    else:
        return fds
    finally:
        # the module holds some 130 MB; the kernel keeps what the program refers to
        module.cleanup()
        atexit.unregister(module.cleanup)


def _keep(key: str, module: Any, function: str, prog_type: str) -> None:
    """Hand the instructions of a compiled function to the cache."""
    from bcc import lib  # noqa: PLC0415

    handle, name = module.module, function.encode()
    code = ctypes.string_at(lib.bpf_function_start(handle, name), lib.bpf_function_size(handle, name))
    lib.bpf_table_name.restype = ctypes.c_char_p
    tables = range(lib.bpf_num_tables(handle))
    maps = {lib.bpf_table_fd_id(handle, index): lib.bpf_table_name(handle, index).decode() for index in tables}
    compiled.keep(key, (function, prog_type, lib.bpf_module_license(handle).decode()), code, maps)


def load(
    source: str, pin_dir: Path, *, function: str | None = None, prog_type: str = "xdp", cflags: Sequence[str] = ()
) -> Program:
    """Compile `source` (a file of `bpf/`, or a path) over the maps pinned in `pin_dir`, and load `function`.

    The function's name is that of the file unless given. VEIL_PINS is defined as the pin directory's string literal.
    Maps that are not pinned yet must have been made with `pins.create_maps`. Raises ProgramError.
    """
    name = function or Path(source).stem
    return load_all(source, pin_dir, (name,), prog_type=prog_type, cflags=cflags)[0]


def _cache_key(path: Path, functions: Sequence[str], prog_type: str, cflags: Sequence[str]) -> str:
    """Empty for what is not one of VeilNet's own programs as it is shipped: that is compiled every time."""
    own = path.parent == source_dir() and not cflags and len(functions) == 1
    return compiled.digest(path.parent, functions[0], prog_type) if own else ""


def load_all(
    source: str, pin_dir: Path, functions: Sequence[str], *, prog_type: str = "xdp", cflags: Sequence[str] = ()
) -> list[Program]:
    """As `load`, several functions of one file for one compilation; all of them or none."""
    if prog_type not in TYPES:
        raise ValueError(f"program type {prog_type!r}: one of {TYPES}")
    path = source_dir() / source  # an absolute source stands for itself
    use_headers()
    key = _cache_key(path, functions, prog_type, cflags)
    begin = time.monotonic()
    if key and (fd := compiled.load(key, pin_dir)) is not None:
        return [Program(functions[0], fd, time.monotonic() - begin)]
    flags = [f"-I{source_dir()}", f'-DVEIL_PINS="{pin_dir}"', "-Wno-macro-redefined", *cflags]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        try:
            with _stderr_to(log):
                fds = _compile(path, functions, prog_type, flags, key)
        except ProgramError:
            raise
        except Exception as error:  # bcc raises nothing finer
            text = log.read_text(errors="replace")[-8000:]
            raise ProgramError(f"{path.name}: {error}\n{text}") from error
    seconds = time.monotonic() - start
    return [Program(name, fd, seconds) for name, fd in zip(functions, fds, strict=True)]
