# SPDX-License-Identifier: Apache-2.0
"""ChaCha20-Poly1305 in BPF: ns per packet by test runs, beside OpenSSL in user space.

A run's figure is the fastest of many short batches, so that other load on the machine weighs less; the row holds the
median over the runs, with the empty program's cost taken off. All programs and peers take turns within each run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bench.report import Row, row
from tests.bpf.crypto import REFUSED, Args, Entry
from veilnet import contract as c
from veilnet.loader import libbpf, pins, program

SIZES = (64, 1408)
PROGRAMS = {"empty": "empty", "seal": "seal", "open": "open_any", "forged": "open"}
"""Figure → function of tests/bpf/crypto_entry.c."""
BATCHES, REPEAT = 40, 250
PEER = "OpenSSL, user space"
Measure = Callable[[], float]


def in_kernel(fd: int, packet: bytes) -> Measure:
    """Fastest batch, ns per run."""
    return lambda: min(libbpf.test_run(fd, packet, repeat=REPEAT).duration_ns for _ in range(BATCHES))


def in_user_space(call: Callable[[], object]) -> Measure:
    def measure() -> float:
        best = float("inf")
        for _ in range(BATCHES):
            begin = time.perf_counter_ns()
            for _ in range(REPEAT):
                call()
            best = min(best, (time.perf_counter_ns() - begin) / REPEAT)
        return best

    return measure


def peers(size: int) -> dict[str, Measure]:
    """`cryptography` into a buffer made once; what Python adds to a call is part of it."""
    aead, nonce, aad = ChaCha20Poly1305(os.urandom(32)), os.urandom(12), os.urandom(c.SHDR_LEN)
    text, sealed, opened = os.urandom(size), bytearray(size + c.AEAD_TAG_LEN), bytearray(size)
    aead.encrypt_into(nonce, text, aad, sealed)
    return {
        "seal": in_user_space(lambda: aead.encrypt_into(nonce, text, aad, sealed)),
        "open": in_user_space(lambda: aead.decrypt_into(nonce, sealed, aad, opened)),
    }


def figures(entries: dict[str, Entry], runs: int) -> dict[tuple[str, int], float]:
    """Medians by what and size; `peer seal` and `peer open` are the peer's."""
    turns: dict[tuple[str, int], Measure] = {}
    for size in SIZES:
        packet = Args(os.urandom(32), os.urandom(12), aad=os.urandom(c.SHDR_LEN), text=os.urandom(size)).pack()
        if libbpf.test_run(entries["forged"].program.fd, packet).verdict != REFUSED:
            raise RuntimeError("a forged packet was accepted")
        turns |= {(name, size): in_kernel(entry.program.fd, packet) for name, entry in entries.items()}
        turns |= {(f"peer {name}", size): measure for name, measure in peers(size).items()}
    taken = [{key: measure() for key, measure in turns.items()} for _ in range(runs)]
    return {key: median(one[key] for one in taken) for key in turns}


def verified(fd: int) -> int:
    """Instructions that the verifier walked."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines():
        if line.startswith("verified_insns:"):
            return int(line.split()[1])
    raise RuntimeError("this kernel does not tell the verified instructions")


def program_rows() -> list[Row]:
    """Compile and load time, verified instructions of the two programs that use the AEAD."""
    directory = pins.instance_dir(f"benchaead{os.getpid()}")
    pins.create_maps(directory)
    result = []
    try:
        for source in ("veil_seal.c", "veil_rx.c"):
            with program.load(source, directory) as loaded:
                result.append(row(f"{source}: verified instructions", "instructions", verified(loaded.fd)))
                result.append(row(f"{source}: compile and load", "s", round(loaded.seconds, 2)))
    finally:
        pins.remove_dir(directory)
    return result


def rows(runs: int = 5) -> list[Row]:
    """Seal, open and refusal at 64 and 1408 bytes, then the programs themselves."""
    entries = {name: Entry(function) for name, function in PROGRAMS.items()}
    try:
        got = figures(entries, runs)
    finally:
        for entry in entries.values():
            entry.close()
    result = [row("empty program, taken off below", "ns", got["empty", SIZES[0]])]
    for size in SIZES:
        for name in ("seal", "open", "forged"):
            peer = {PEER: round(got[f"peer {name}", size])} if name != "forged" else {}
            title = f"AEAD {name}, {size} B" if name != "forged" else f"AEAD open refused, {size} B"
            result.append(row(title, "ns", got[name, size] - got["empty", size], peer))
    return result + program_rows()
