# SPDX-License-Identifier: Apache-2.0
"""The `veilnet` command: puts the parts together and turns errors into text and exit codes."""

from __future__ import annotations

import sys

import typer

from veilnet.cli import doctor, fleet, hosts, login, master, node, realm, token
from veilnet.cli.admin import disconnect, explained
from veilnet.cli.output import CliError, complain
from veilnet.cli.resources import add_resources
from veilnet.client.transport import ApiProblem, Unreachable


def build() -> typer.Typer:
    app = typer.Typer(
        name="veilnet",
        help="VeilNet: a post-quantum, multi-hop overlay network.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # a traceback would show local variables, secrets among them
        epilog="Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nobody answered, 4 not permitted.",
    )
    app.add_typer(master.app, name="master")
    groups = {
        "realm": realm.app,
        "token": token.app,
        "node": node.node_app,
        "topology": realm.topology_app,
        "guardian": node.role_app("guardian", "A relay; `list` and `get` for administrators."),
        "conflux": node.role_app("conflux", "An endpoint."),
    }
    for name, group in groups.items():
        app.add_typer(group, name=name)
    add_resources(app, groups)
    people = (login.login, login.logout, login.whoami)
    for command in (
        *people,
        node.status,
        node.ping,
        node.paths,
        hosts.hosts,
        doctor.doctor,
        fleet.plan,
        fleet.apply,
        fleet.destroy,
    ):
        app.command()(command)
    return app


def main() -> None:
    try:
        build()(prog_name="veilnet")
    except (CliError, ApiProblem, Unreachable) as error:
        told = error if isinstance(error, CliError) else explained(error)
        complain(told)
        sys.exit(int(told.code))
    finally:
        disconnect()
