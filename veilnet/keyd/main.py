# SPDX-License-Identifier: Apache-2.0
"""`python -m veilnet.keyd --instance NAME --state-dir DIR --nic NIC ... [--knock-port PORT] [--accept-networks]
[--offer-network PREFIX ...]`

The key daemon of one instance, in the foreground, over a data plane that is up already. SIGTERM and SIGINT end it and
leave the data plane at work; SIGHUP reads the host's addresses again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from ipaddress import ip_network
from pathlib import Path

import structlog

from veilnet.keyd.advertise import advertise
from veilnet.keyd.core import NetworkChoice
from veilnet.keyd.node import MasterClient
from veilnet.keyd.node_files import NodeError, NodeFiles, read_info
from veilnet.keyd.shell import Shell
from veilnet.loader import routing


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m veilnet.keyd", description="VeilNet key daemon of one instance")
    parser.add_argument("--instance", required=True)
    parser.add_argument("--state-dir", required=True, type=Path)
    parser.add_argument("--nic", required=True, action="append", help="underlay device; may be repeated")
    parser.add_argument("--knock-port", type=int, default=0, help="default: the one in the data plane's configuration")
    parser.add_argument("--accept-networks", action="store_true", help="use networks behind other nodes")
    parser.add_argument("--offer-network", action="append", default=[], type=ip_network, help="be a gateway of it")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args(arguments)


def configure_logging(verbose: bool) -> None:
    """One JSON object a line on standard output."""
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(stream=sys.stdout, level=level, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )


async def serve(options: argparse.Namespace) -> None:
    files = NodeFiles(options.state_dir)
    info = read_info(files)
    overlay, offered = (info.ipv4.network, info.ipv6.network), tuple(options.offer_network)
    choice = NetworkChoice(options.accept_networks, overlay, offered)
    advertise(files, offered)
    client = MasterClient(files, mark=routing.MARK if choice.accept else 0)
    shell = Shell(
        options.instance, files.node_keys(), tuple(options.nic), options.knock_port, client.status, networks=choice
    )
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, shell.reload)
    await shell.run(client.snapshots(), stop)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    configure_logging(options.verbose)
    try:
        asyncio.run(serve(options))
    except NodeError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"instance {options.instance}: {error}", file=sys.stderr)
        return 1
    return 0
