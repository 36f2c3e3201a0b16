# SPDX-License-Identifier: Apache-2.0
"""Measure netem in a guest with a Debian kernel (software emulation, no KVM needed): `./run netem`.

Writes the figures of every case to netem.json beside this file, with kernel and date; the default tests compare the
emulator with them. Takes about eight minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.lab.wire.cases import CASES, FRAME_BYTES, FRAMES, summary
from tests.lab.wire.stalls import Stalls, of_probe
from veilnet.lab.wire.build import compiled
from veilnet.lab.wire.impairment import Impairment, netem_arguments

RESULT = Path(__file__).with_name("netem.json")
CACHE = Path(__file__).resolve().parents[3] / ".cache" / "netem"
INTERVAL_NS = 500_000
MODULES = ("virtio_pci", "virtio_blk", "veth", "sch_netem")
PROGRAMS = ("busybox", "ip", "tc")
TIMEOUT = 1800  # seconds, all cases
DISK = 64 << 20

_INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
for module in {modules}; do busybox insmod /modules/$module; done
ip link set dev lo up
busybox mkdir /out
busybox uname -r >/out/kernel
{cases}
cd /out && busybox tar -c -f /dev/vda . && busybox sync
busybox poweroff -f
"""

_CASE = """
echo "case {name}"
ip link add name {a} type veth peer name {b}
ip link set dev {a} up; ip link set dev {b} up
tc qdisc replace dev {a} root {words} || echo "tc refused {name}"
probe measure - {a} - {b} {frames} {interval} {size} >/out/{name} 2>/out/{name}.stalls
tc -s qdisc show dev {a} >/out/{name}.tc
"""


def _run(*line: str, cwd: Path | None = None, stdin: str | None = None) -> str:
    return subprocess.run(line, cwd=cwd, input=stdin, check=True, capture_output=True, text=True).stdout


def distributions() -> list[Path]:
    """tc's tables of delay distributions, where iproute2's package put them."""
    return [Path(line) for line in _run("dpkg", "-L", "iproute2").splitlines() if line.endswith(".dist")]


def kernel_tree() -> tuple[Path, str]:
    """Unpacked kernel package and its version; the newest one that Debian's `linux-image-amd64` names."""
    depends = _run("apt-cache", "depends", "--important", "linux-image-amd64")
    package = next(word for word in depends.split() if word.startswith("linux-image-6"))
    version = package.removeprefix("linux-image-")
    tree = CACHE / version
    if not (tree / "modules.ready").exists():
        tree.mkdir(parents=True, exist_ok=True)
        _run("apt-get", "download", "-o", "APT::Sandbox::User=root", package, cwd=CACHE)
        _run("dpkg-deb", "-x", str(next(CACHE.glob(f"{package}_*.deb"))), str(tree))
        _run("depmod", "-b", str(tree), version)
        (tree / "modules.ready").touch()
    return tree, version


def _modules(tree: Path, version: str, root: Path) -> list[str]:
    """Copies what MODULES need, in order of loading."""
    (root / "modules").mkdir()
    names = []
    for module in MODULES:
        for line in _run("modprobe", "-d", str(tree), "-S", version, "--show-depends", module).splitlines():
            kind, path = line.split()[:2]
            if kind == "insmod" and Path(path).name not in names:
                shutil.copy(path, root / "modules")
                names.append(Path(path).name)
    return names


def _programs(root: Path) -> None:
    """Programs with the libraries that ldd names, under their own paths."""
    (root / "bin").mkdir()
    for name in PROGRAMS:
        path = shutil.which(name)
        assert path, f"{name} is missing"
        shutil.copy(path, root / "bin" / name)
        for word in _run("ldd", path).split():
            if word.startswith("/"):
                target = root / word.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)
    shutil.copy(compiled("probe", "-static"), root / "bin" / "probe")
    for table in distributions():
        target = root / str(table).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(table, target)


def _init(modules: list[str]) -> str:
    cases = [
        _CASE.format(
            name=name,
            a=f"a{n}",
            b=f"b{n}",
            words=" ".join(netem_arguments(impairment)),
            frames=FRAMES,
            interval=INTERVAL_NS,
            size=FRAME_BYTES,
        )
        for n, (name, impairment) in enumerate(CASES.items())
    ]
    return _INIT.format(modules=" ".join(modules), cases="".join(cases))


def initramfs(tree: Path, version: str, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("proc", "sys", "dev", "run"):
            (root / name).mkdir()
        _programs(root)
        script = root / "init"
        script.write_text(_init(_modules(tree, version, root)))
        script.chmod(0o755)
        files = _run("find", ".", cwd=root)
        with target.open("wb") as out:
            subprocess.run(
                ["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=files.encode(), stdout=out, check=True
            )


def boot(kernel: Path, ramdisk: Path, disk: Path) -> str:
    """Runs the guest until it powers off; its console."""
    disk.write_bytes(b"")
    os.truncate(disk, DISK)
    line = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot"]
    line += ["-nic", "none", "-kernel", str(kernel), "-initrd", str(ramdisk), "-append", "console=ttyS0 quiet panic=-1"]
    line += ["-drive", f"file={disk},format=raw,if=virtio"]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    return done.stdout


def figures(case: Impairment, records: bytes, said: bytes) -> dict[str, object]:
    """The guest has one CPU: when the probe could not run, netem's timers could not either."""
    start, stalls = of_probe(said)
    return {"netem": " ".join(netem_arguments(case)), **summary(case, records, start, Stalls(stalls))}


def main() -> int:
    tree, version = kernel_tree()
    with tempfile.TemporaryDirectory() as folder:
        ramdisk, disk = Path(folder) / "initramfs", Path(folder) / "disk"
        initramfs(tree, version, ramdisk)
        start = time.monotonic()
        console = boot(tree / f"boot/vmlinuz-{version}", ramdisk, disk)
        if "tc refused" in console:
            sys.exit(console[-2000:])
        with tarfile.open(disk) as results:
            files = {Path(m.name).name: results.extractfile(m) for m in results.getmembers() if m.isfile()}
            texts = {name: file.read() for name, file in files.items() if file is not None}
    found = {
        "kernel": texts["kernel"].decode().strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "qemu": _run("qemu-system-x86_64", "--version").splitlines()[0],
        "seconds": round(time.monotonic() - start),
        "cases": {name: figures(case, texts[name], texts[f"{name}.stalls"]) for name, case in CASES.items()},
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {RESULT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
