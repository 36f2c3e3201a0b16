# SPDX-License-Identifier: Apache-2.0
"""Enrolment, once: keys that are made here and stay here, and what the Master certifies of them."""

from __future__ import annotations

import asyncio
import base64
import json
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Any

import httpx

from veilnet.enrolment_token import EnrolmentTokenText
from veilnet.keyd.master_socket import HTTP_TIMEOUT, tls_context
from veilnet.keyd.node_files import DESCRIPTOR_SECONDS, Clock, NodeError, NodeFiles, NodeInfo, unix_now
from veilnet.keyd.problem import problem_text, reason
from veilnet.protocol.directory import (
    Certificate,
    DirectoryError,
    Endpoint,
    fingerprint,
    read_envelope,
    verify_certificate,
)
from veilnet.protocol.enrolment import EnrolmentClaim, sign_claim
from veilnet.protocol.networks import check_range
from veilnet.protocol.trust import Trust
from veilnet.tls_pin import PinError, fetch_certificate


async def enrol(
    files: NodeFiles, token: EnrolmentTokenText, name: str, endpoints: tuple[Endpoint, ...], clock: Clock = unix_now
) -> NodeInfo:
    """Make this node's keys, prove their possession, and keep what the Master answers.

    Repeating it with the same token after a failure gives the same node. Raises NodeError.
    """
    files.make_keys()
    pem = await _pinned_pem(token)
    claim = EnrolmentClaim(bytes.fromhex(token.realm), token.id, files.identity_key(), name, clock())
    body = {
        "token_id": token.id,
        "secret": token.secret,
        "request": sign_claim(claim, files.identity()).as_json(),
        "descriptor": json.loads(files.make_descriptor(endpoints, clock(), DESCRIPTOR_SECONDS)),
    }
    context = tls_context(token.url, pem)
    async with httpx.AsyncClient(verify=context, timeout=HTTP_TIMEOUT, trust_env=False) as client:
        try:
            response = await client.post(f"{token.url}/api/v1/enrolments", json=body)
        except httpx.HTTPError as error:
            raise NodeError(f"Master {token.url} can't be reached ({reason(error)}): check address and port") from error
    if response.status_code != 201:
        raise NodeError(f"the Master refused the enrolment: {problem_text(response)}")
    return _keep(files, token, pem, response.json(), clock())


async def _pinned_pem(token: EnrolmentTokenText) -> str | None:
    if token.tls is None:
        return None
    try:
        return await asyncio.to_thread(fetch_certificate, token.url, token.tls)
    except PinError as error:
        raise NodeError(str(error)) from error
    except OSError as error:
        raise NodeError(f"Master {token.url} can't be reached ({reason(error)}): check address and port") from error


def _keep(files: NodeFiles, token: EnrolmentTokenText, pem: str | None, answer: Any, now: int) -> NodeInfo:
    """Check the answer against what the token pins, then write it; node.json last, as it means "enrolled"."""
    try:
        ca_key = base64.b64decode(answer["ca_key"], validate=True)
        if fingerprint(ca_key).hex() != token.ca:
            raise NodeError("the Master answered with another realm key than the token pins: do not trust it")
        chain = [read_envelope(item) for item in answer.get("ca_chain", [])]
        trust = Trust.root(ca_key, bytes.fromhex(token.realm)).extended(chain, 0)
        certificate = verify_certificate(answer["certificate"], trust, now)
        info, credential = _info(token, certificate, answer), str(answer["credential"])
    except (KeyError, TypeError, ValueError, DirectoryError) as error:
        raise NodeError(f"the Master's answer is not a valid enrolment: {error}") from error
    if certificate.key != files.identity_key():
        raise NodeError("the Master certified another key than ours: do not trust it")
    files.write("ca.key", ca_key)
    files.write("credential", credential.encode())
    if pem is not None:
        files.write("master.pem", pem.encode())
    files.write("node.json", info.model_dump_json(indent=2).encode())
    return info


def _info(token: EnrolmentTokenText, certificate: Certificate, answer: Any) -> NodeInfo:
    """ValueError if a range is none that a host may route into the overlay."""
    ipv4 = IPv4Interface((certificate.ipv4, IPv4Network(answer["ipv4_range"]).prefixlen))
    ipv6 = IPv6Interface((certificate.ipv6, IPv6Network(answer["ipv6_prefix"]).prefixlen))
    for interface in (ipv4, ipv6):
        check_range(interface.network)
    return NodeInfo(
        id=str(answer["id"]),
        name=certificate.name,
        node=certificate.node.hex(),
        realm=certificate.realm.hex(),
        roles=sorted(certificate.roles),
        ipv4=ipv4,
        ipv6=ipv6,
        url=token.url,
    )
