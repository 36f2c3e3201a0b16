# SPDX-License-Identifier: Apache-2.0
"""up, swap and down in a namespace of their own: idempotent, undone on failure, nothing left behind, no frame lost."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.loader.conftest import INSTANCE
from tests.patience import wait_for
from veilnet import contract as c
from veilnet.loader import attach, dataplane, ethtool, libbpf, pins, program, veth
from veilnet.loader.attach import AttachError
from veilnet.loader.dataplane import CONFLUX, GUARDIAN, Spec, down, swap, up
from veilnet.loader.maps import Maps

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]

ADDRESSES = (ip_interface("10.99.0.1/24"), ip_interface("fd99::1/64"))
NODE = Spec(INSTANCE, ("n0",), CONFLUX, knock_port=51820, addresses=ADDRESSES, routes=(ip_network("10.98.0.0/16"),))


def _xdp(nic: str) -> int:
    return libbpf.xdp_query(socket.if_nametoindex(nic)).any


def _devices() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def _pins() -> set[str]:
    return {p.name for p in pins.instance_dir(INSTANCE).iterdir()}


def _read(path: str) -> str:
    return Path(path).read_text().strip()


def _assert_nothing_left() -> None:
    assert _devices() == {"lo", "n0", "n1"} and _xdp("n0") == 0
    assert pins.instance_dirs(INSTANCE) == []


def test_conflux_up_and_down() -> None:
    facts = up(NODE)
    pair = facts.veth
    assert pair is not None
    assert _pins() == set(pins.MAPS) | {f"prog_{name}" for name in dataplane.PROGRAMS[CONFLUX]}
    ids = {path.name: number for number, path in pins.program_ids(INSTANCE).items()}
    assert (_xdp("n0"), _xdp("veil0"), _xdp("veil0p")) == (
        ids["prog_veil_rx"],
        ids["prog_xdp_pass"],
        ids["prog_veil_seal"],
    )
    assert libbpf.tc_query(pair.peer_ifindex) == ids["prog_veil_emit"]
    with Maps(facts.pin_dir) as maps:
        config = maps.config
        assert config.fib_ifindex == config.veil0p_ifindex == socket.if_nametoindex("veil0p")
        assert (bytes(config.veil0_mac), bytes(config.veil0p_mac)) == (pair.mac, pair.peer_mac)
        assert (config.knock_port, config.inner_mtu, config.emit, config.dark) == (51820, 1432, c.EMIT_TC, 0)
        assert config.bucket_seed
    down(INSTANCE)
    _assert_nothing_left()
    down(INSTANCE)


def test_device_settings() -> None:
    up(NODE)
    assert not {n for n, on in ethtool.offloads("veil0").items() if on} & {"tso", "gso", "tx-checksum"}
    assert _read("/proc/sys/net/ipv4/conf/veil0p/forwarding") == "1"
    assert _read("/proc/sys/net/ipv4/conf/n0/forwarding") == _read("/proc/sys/net/ipv4/conf/veil0/forwarding") == "0"
    with IPRoute() as ip:
        index = socket.if_nametoindex("veil0")
        assert ip.get_links(index)[0]["flags"] & veth.IFF_NOARP
        found = {a.get_attr("IFA_ADDRESS") for a in ip.get_addr(index=index)}
        assert found == {"10.99.0.1", "fd99::1"}  # no link-local address of its own
        assert [r for r in ip.get_routes(oif=index) if r.get_attr("RTA_DST") == "10.98.0.0"]


def test_guardian_has_no_overlay() -> None:
    up(replace(NODE, role=GUARDIAN, addresses=(), routes=()))
    assert _xdp("n0") and not _xdp("veil0") and not _xdp("veil0p")
    assert _read("/proc/sys/net/ipv4/conf/veil0p/forwarding") == "1"
    swap(INSTANCE)
    down(INSTANCE)
    _assert_nothing_left()


def test_up_again_keeps_state() -> None:
    first = up(NODE)
    with Maps(first.pin_dir) as maps:
        seed = maps.config.bucket_seed
        maps.save_state(1, 1, b"kept")
    again = up(NODE)
    assert [f.replaced for f in again.attached] and all(f.replaced for f in again.attached)
    assert first.veth is not None and again.veth is not None
    assert again.veth.ifindex == first.veth.ifindex
    with Maps(again.pin_dir) as maps:
        assert maps.config.bucket_seed == seed and maps.load_states() == {(1, 1): b"kept"}


def test_pair_follows_its_description() -> None:
    first = veth.ensure_pair("veil0", INSTANCE, mtu=1400, addresses=ADDRESSES)
    again = veth.ensure_pair("veil0", INSTANCE, mtu=1300, addresses=(ip_interface("10.99.0.2/24"), ADDRESSES[1]))
    assert (first.created, again.created, again.mtu) == (True, False, 1300)
    with IPRoute() as ip:
        found = {a.get_attr("IFA_ADDRESS") for a in ip.get_addr(index=again.ifindex)}
        assert found == {"10.99.0.2", "fd99::1"}
        assert ip.get_links(again.ifindex)[0].get_attr("IFLA_MTU") == 1300


def test_up_on_another_nic_leaves_the_first() -> None:
    up(replace(NODE, role=GUARDIAN))
    up(replace(NODE, role=GUARDIAN, nics=("n1",)))
    assert not _xdp("n0") and _xdp("n1")


def test_failed_first_up_leaves_nothing() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="br0", kind="bridge")
    with pytest.raises(AttachError, match="bridge has no native XDP"):
        up(replace(NODE, nics=("n0", "br0")))
    with IPRoute() as ip:
        ip.link("del", ifname="br0")
    _assert_nothing_left()


def test_failed_later_up_leaves_the_old_one_running() -> None:
    up(NODE)
    before = {nic: _xdp(nic) for nic in ("n0", "veil0", "veil0p")}
    pinned = pins.program_ids(INSTANCE)
    with IPRoute() as ip:
        ip.link("add", ifname="br0", kind="bridge")
    with pytest.raises(AttachError, match="bridge has no native XDP"):
        up(replace(NODE, nics=("n0", "br0")))
    assert {nic: _xdp(nic) for nic in before} == before
    assert pins.program_ids(INSTANCE) == pinned


def test_strangers_program_stops_up(pin_dir: Path) -> None:
    with program.load("xdp_pass.c", pin_dir) as stranger:
        attach.attach_xdp("n0", stranger.fd, ours=())
        with pytest.raises(AttachError, match="somebody else"):
            up(NODE)
        assert _xdp("n0") == stranger.id
        assert _devices() == {"lo", "n0", "n1"} and pins.instance_dirs(INSTANCE) == []
        attach.detach_xdp("n0", ours={stranger.id})


def test_name_of_the_device_taken() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="veil0", kind="bridge")
    with pytest.raises(veth.DeviceTakenError, match="veil0"):
        up(NODE)
    down(INSTANCE)
    assert "veil0" in _devices() and pins.instance_dirs(INSTANCE) == []


DIE = """
import os, sys
from veilnet.loader import dataplane, {module}
{module}.{function} = lambda *a, **k: os.kill(os.getpid(), 9)
dataplane.up(dataplane.Spec("{instance}", ("n0",), "conflux"))
"""


@pytest.mark.parametrize(
    ("running", "at"),
    [
        (False, "veth.ensure_pair"),
        (False, "attach.attach_emit"),
        (True, "attach.attach_emit"),
        (True, "pins.commit_program"),
    ],
)
def test_up_after_kill(running: bool, at: str) -> None:
    if running:
        up(NODE)
    module, function = at.split(".")
    script = DIE.format(module=module, function=function, instance=INSTANCE)
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(dataplane.__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    up(NODE)
    assert _pins() == set(pins.MAPS) | {f"prog_{name}" for name in dataplane.PROGRAMS[CONFLUX]}
    assert set(attach.attached(pins.program_ids(INSTANCE))) == {"n0", "veil0", "veil0p"}
    down(INSTANCE)
    _assert_nothing_left()


def _flood(stop: threading.Event, sent: list[int], counted: Callable[[], int]) -> None:
    """UDP datagrams from n1 to n0, never more on their way than its 256 frame ring holds, until told to stop."""
    frame = bytes(
        Ether(dst="02:00:00:00:00:01") / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=9, dport=9) / bytes(64)
    )
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("n1", 0))
        while not stop.is_set():
            if sent[0] - counted() <= 200:
                for _ in range(20):
                    sock.send(frame)
                sent[0] += 20
            time.sleep(0.002)


def test_swap_loses_no_frame() -> None:
    pin_dir = up(NODE).pin_dir
    stop, sent = threading.Event(), [0]
    with Maps(pin_dir) as maps:
        before = maps.reasons()["PASS_NO_LINK"]

        def counted() -> int:
            return maps.reasons()["PASS_NO_LINK"] - before

        thread = threading.Thread(target=_flood, args=(stop, sent, counted))
        thread.start()
        try:
            ids = [swap(INSTANCE).attached for _ in range(2)]
            wait_for(lambda: sent[0] > 1000 or sent[0] - counted() > 200)
        finally:
            stop.set()
            thread.join()
        wait_for(lambda: counted() >= sent[0], seconds=10, what=f"{sent[0]} sent, not all were counted")
        assert counted() == sent[0] > 1000
    assert all(fact.replaced for facts in ids for fact in facts)
    assert len(pins.program_ids(INSTANCE)) == len(dataplane.PROGRAMS[CONFLUX])


def test_swap_needs_an_instance() -> None:
    with pytest.raises(program.ProgramError, match="not up"):
        swap(INSTANCE)


def test_the_pairs_addresses_are_not_udevs_to_change() -> None:
    facts = veth.ensure_pair("veil0", INSTANCE, mtu=1400)
    read = (
        "mount -t sysfs sysfs /sys && cat /sys/class/net/veil0/addr_assign_type /sys/class/net/veil0p/addr_assign_type"
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", read], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["3", "3"]  # NET_ADDR_SET of linux/netdevice.h
    assert facts.mac[0] & 3 == facts.peer_mac[0] & 3 == 2  # locally administered, unicast
