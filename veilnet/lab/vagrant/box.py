# SPDX-License-Identifier: Apache-2.0
"""`lab box`: a Vagrant box from Debian's packages, one for each kernel; no box comes from the internet.

BOXES/veilnet-<kernel>.box holds metadata.json, Vagrantfile, box.img (ext4 without partitions), vmlinuz, initrd.img.
BOXES/key is the ssh key of all boxes built here (0600); its public half is root's only way in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from veilnet.lab.journal import LabError
from veilnet.lab.vagrant import locked

BOXES = Path("/var/cache/veilnet/boxes")
HERE = Path(__file__).resolve().parent
TOOLS = ("mmdebstrap", "mke2fs", "qemu-img", "ssh-keygen", "tar", "dpkg-deb", "apt-get")
DISK_FREE = 4 << 30
"""Bytes that building takes at its widest: the tree, its image and the box."""
SUITE = "bookworm"
KERNELS = {
    "6.1": ("linux-image-amd64", "linux-headers-amd64"),
    "6.12": ("linux-image-6.12-amd64", "linux-headers-6.12-amd64"),
}
"""Debian's packages (image, headers) of each kernel on offer."""
PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "procps", "iproute2", "iputils-ping", "ethtool", "openssh-server", "nftables"),
    *("tcpdump", "python3", "python3-bpfcc", "libbpf1", "initramfs-tools", "ca-certificates", "rsync"),
)
# What a machine of QEMU's never has; Debian's kernel brings 300 MB of it.
_UNUSED = (
    "drivers/gpu",
    "drivers/media",
    "drivers/infiniband",
    "drivers/iio",
    "drivers/staging",
    "drivers/usb",
    "sound",
)
_UNUSED_NET = ("wireless", "ethernet", "can", "usb")
_INITRAMFS = "MODULES=list\\nCOMPRESS=zstd\\n"
_MODULES = "virtio_pci\\nvirtio_blk\\next4\\ncrc32c_generic\\n"

_VAGRANTFILE = """\
# frozen_string_literal: true
# Boots the kernel beside the image; root logs in with the key that was made when the box was.
Vagrant.configure("2") do |config|
  config.vm.guest = :debian
  config.ssh.username = "root"
  config.ssh.sudo_command = "%c"
  config.ssh.insert_key = false
  config.ssh.private_key_path = "{key}"
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider :libvirt do |libvirt|
    libvirt.kernel = File.expand_path("vmlinuz", __dir__)
    libvirt.initrd = File.expand_path("initrd.img", __dir__)
    libvirt.cmd_line = "root=/dev/vda rw console=ttyS0 quiet mitigations=off"
    libvirt.disk_bus = "virtio"
  end
end
"""


def path(kernel: str) -> Path:
    """The box of a kernel, built or not. Raises LabError for a kernel that is not on offer."""
    if kernel not in KERNELS:
        raise LabError(f"kernel {kernel!r} is not on offer; there are: {', '.join(KERNELS)}")
    return BOXES / f"veilnet-{kernel}.box"


def build(kernel: str, say: Callable[[str], None]) -> Path:
    """Build the box of a kernel and put it in place of an older one; as it was if anything fails.

    Raises LabError with the tool that failed and the end of what it said.
    """
    target = path(kernel)
    _require(target.parent)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".box", dir=target.parent) as name:
        work = Path(name)
        say(f"Debian {SUITE} with {KERNELS[kernel][0]}: mmdebstrap")
        _debian(kernel, work)
        say("image: mke2fs, qemu-img")
        _image(work)
        _pack(work)
        (work / "box").rename(target)
    say(f"{target}: {target.stat().st_size >> 20} MB in {time.monotonic() - start:.0f} s")
    return target


def _require(folder: Path) -> None:
    if os.geteuid() != 0:
        raise LabError("a box needs root, to make a Debian tree with its owners and devices: use sudo")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}; `sudo ./run setup` installs all that a box needs")
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    free = shutil.disk_usage(folder).free
    if free < DISK_FREE:
        raise LabError(f"{folder}: {free >> 20} MB free, a box takes {DISK_FREE >> 20} MB; make room there")
    if not (folder / "key").exists():
        _tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "veilnet lab", "-f", str(folder / "key")])


def _debian(kernel: str, work: Path) -> None:
    image, headers = KERNELS[kernel]
    (work / "lock").write_text(locked.lines(locked.closure()), encoding="utf-8")
    excluded = [f"kernel/{each}" for each in _UNUSED] + [f"kernel/drivers/net/{each}" for each in _UNUSED_NET]
    options = [f"--dpkgopt=path-exclude=/lib/modules/*/{each}/*" for each in excluded]
    options += [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "man", "locale", "info")]
    initramfs = "etc/initramfs-tools"
    prepare = f'mkdir -p "$1/{initramfs}/conf.d"; printf "{_INITRAMFS}" >"$1/{initramfs}/conf.d/lab"'
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory", *options]
    command += [f"--include={','.join([*PACKAGES, image])}", f"--essential-hook={prepare}"]
    command += [f'--essential-hook=printf "{_MODULES}" >"$1/{initramfs}/modules"']
    command += [f"--customize-hook={HERE / 'customize.sh'}", SUITE, str(work / "tree")]
    hook = {"BOX_KERNEL": kernel, "BOX_HEADERS": headers, "BOX_LOCK": str(work / "lock")}
    hook |= {"BOX_KEY": str(BOXES / "key"), "BOX_PIP": str(locked.ROOT / ".venv/bin/pip")}
    _tool([*command, *_sources()], hook)


def _sources() -> list[str]:
    """The host's own Debian mirrors, as far as they carry this suite."""
    found = []
    with suppress(FileNotFoundError):
        for file in sorted(Path("/etc/apt/sources.list.d").glob("debian*.sources")):
            found.append(str(file))
    listed = Path("/etc/apt/sources.list")
    if not found and listed.exists():
        found.append(str(listed))
    return found


def _image(work: Path) -> None:
    tree = work / "tree"
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile((tree / name).resolve(), work / name)
    raw = work / "raw"
    _tool(["mke2fs", "-q", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1", "-d", str(tree), str(raw), "3G"])
    shutil.rmtree(tree)
    convert = ["qemu-img", "convert", "-O", "qcow2", "-c", "-o", "compression_type=zstd", "-W", "-m", "4"]
    _tool([*convert, str(raw), str(work / "box.img")])
    raw.unlink()


def _pack(work: Path) -> None:
    facts = {"provider": "libvirt", "format": "qcow2", "virtual_size": 3}
    (work / "metadata.json").write_text(json.dumps(facts), encoding="ascii")
    (work / "Vagrantfile").write_text(_VAGRANTFILE.format(key=BOXES / "key"), encoding="ascii")
    names = ("metadata.json", "Vagrantfile", "box.img", "vmlinuz", "initrd.img")
    _tool(["tar", "-C", str(work), "-cf", str(work / "box"), *names])


def _tool(command: list[str], env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | (env or {}))
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise LabError(f"{command[0]} ended with {done.returncode}: {said}")
