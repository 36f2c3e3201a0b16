# SPDX-License-Identifier: Apache-2.0
"""`veilnet master init` and `veilnet master serve`, without their command line."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from veilnet.admin_token import AdminTokenText
from veilnet.api.access.repository import ApiTokenRepository
from veilnet.api.access.service import create_api_token
from veilnet.api.app import create_app
from veilnet.api.context import Context
from veilnet.api.db import make_engine, read_session, write_session
from veilnet.api.hub import Hub
from veilnet.api.logs import configure_logs
from veilnet.api.ops.app import create_ops_app
from veilnet.api.ops.connection import BoundedHttpProtocol, allow_files
from veilnet.api.ops.servers import run_servers
from veilnet.api.settings import MasterSettings, SetupError, load_settings, save_settings, settings_file
from veilnet.api.storage.upgrade import bring_up_to_date
from veilnet.api.tls import make_certificate
from veilnet.enrolment_token import checked_url
from veilnet.files import private_directory


@dataclass(frozen=True)
class Listen:
    host: str
    port: int
    plain_http: bool = False
    ops: tuple[str, int] | None = None
    """Where operators look: health and metrics, without credentials."""


def init_master(state_dir: Path, public_url: str, database_url: str | None = None) -> AdminTokenText:
    """Make state directory, TLS certificate, database and the first administrator's token, which is shown once.

    Without `database_url` a SQLite file in the state directory; a Postgres database has to exist and to be empty.
    """
    if settings_file(state_dir).exists():
        raise SetupError(f"{state_dir} already holds a Master; choose another --state-dir, or move this one away")
    try:
        url = checked_url(public_url)
    except ValueError as error:
        raise SetupError(f"--url {public_url}: {error}") from error
    if database_url is not None:
        _check_database_url(database_url)
    private_directory(state_dir)
    settings = _settings(state_dir.resolve(), url, database_url)
    try:
        text = asyncio.run(_owner_token(settings, "first", only=True))
    except (SQLAlchemyError, ImportError, OSError) as error:
        where = make_url(settings.database_url).render_as_string(hide_password=True)
        raise SetupError(f"database {where}: {type(error).__name__}: {str(error).splitlines()[0][:200]}") from error
    save_settings(settings)  # last: a half-made Master can be made again
    return AdminTokenText(url=url, token=text, tls=settings.tls_fingerprint)


def _check_database_url(url: str) -> None:
    try:
        kind = make_url(url).get_backend_name()
    except ArgumentError:
        kind = ""
    if kind not in {"postgresql", "sqlite"}:
        raise SetupError("database: give postgresql://USER:PASSWORD@HOST/DATABASE (or sqlite+aiosqlite:///FILE)")


def _settings(state_dir: Path, url: str, database_url: str | None) -> MasterSettings:
    host = urlsplit(url).hostname or ""
    if url.startswith("http://"):
        if not is_loopback(host):
            raise SetupError("plain HTTP is for loopback only: use an https URL, or http://127.0.0.1:PORT")
        fingerprint = None
    else:
        fingerprint = make_certificate(state_dir / "tls.pem", state_dir / "tls.key", [host, "localhost", "127.0.0.1"])
    return MasterSettings(
        state_dir=state_dir,
        public_url=url,
        tls_fingerprint=fingerprint,
        database_url=database_url or f"sqlite+aiosqlite:///{state_dir / 'master.db'}",
    )


def make_owner_token(state_dir: Path) -> AdminTokenText:
    """For a Master whose owners' tokens have all ended. Whoever reads the state directory could do worse."""
    settings = load_settings(state_dir)
    text = asyncio.run(_owner_token(settings, "made on the Master's host"))
    return AdminTokenText(url=settings.public_url, token=text, tls=settings.tls_fingerprint)


async def _owner_token(settings: MasterSettings, name: str, *, only: bool = False) -> str:
    engine = make_engine(settings.database_url)
    try:
        await bring_up_to_date(engine, settings.backups_dir)
        async with read_session(engine) as session:
            if only and await ApiTokenRepository(session).any():
                raise SetupError("this database already serves a Master: restore its state directory instead")
        async with write_session(engine, Hub()) as session:
            text = await create_api_token(session, name, int(time.time()))
    finally:
        await engine.dispose()
    if engine.dialect.name == "sqlite":
        Path(engine.url.database or "").chmod(0o600)
    return text


def serve_master(state_dir: Path, listen: Listen) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = load_settings(state_dir)
    if listen.plain_http and not is_loopback(listen.host):
        raise SetupError(f"--plain-http on {listen.host}: plain HTTP is for loopback only, tokens would be readable")
    if not listen.plain_http and settings.tls_fingerprint is None:
        raise SetupError("this Master was made with an http URL and has no certificate: add --plain-http")
    configure_logs()
    app = create_app(settings)
    config = api_config(app, settings, listen)
    allow_files()
    run_servers(config, None if listen.ops is None else partial(_ops_config, app.state.context, listen.ops))


def api_config(app: FastAPI, settings: MasterSettings, listen: Listen) -> uvicorn.Config:
    """The API's listener."""
    return uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        host=listen.host,
        port=listen.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws_per_message_deflate=False,  # signatures don't compress, and it would be done once a channel
        ws_ping_interval=20,
        ws_max_size=1024 * 1024,
        ssl_certfile=None if listen.plain_http else settings.tls_certificate,
        ssl_keyfile=None if listen.plain_http else settings.tls_key,
        timeout_graceful_shutdown=5,
    )


def _ops_config(context: Context, where: tuple[str, int], stopping: Callable[[], bool]) -> uvicorn.Config:
    host, port = where
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            detail = f"--ops {host}:{port}: {error.strerror}: choose another port, or `--ops off`"
            raise SetupError(detail) from error
    app = create_ops_app(context.engine, context.metrics, stopping)
    return uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
