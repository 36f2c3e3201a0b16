# SPDX-License-Identifier: Apache-2.0
"""What a node keeps on disk: keys made here, documents from the Master. Every file has mode 0600 and is replaced whole.

identity.key x25519.key mlkem768.key knock.seed   private: ML-DSA-65 seed 32, X25519 32, ML-KEM-768 seed 64, 32 bytes
node.json                                         who we are and where the Master is
ca.key master.pem                                 pinned: realm CA's public key, Master's TLS certificate
credential                                        bearer for the Master
taints.json                                       those of our granted taints that we wear, if not all
networks.json                                     those that we are a gateway for (advertise.py)
descriptor.json directory.db                      our last descriptor; what we know of the realm (directory_file.py)
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from veilnet.files import private_directory, write_private
from veilnet.keyd.core import NodeKeys
from veilnet.protocol.directory import (
    Descriptor,
    DirectoryError,
    Endpoint,
    key_id,
    sign_descriptor,
    verify_descriptor,
)
from veilnet.protocol.envelope import canonical_json
from veilnet.protocol.policy import check_taint

Clock = Callable[[], int]
DESCRIPTOR_SECONDS: Final = 7 * 86400
KEY_LENGTHS: Final = {"identity.key": 32, "x25519.key": 32, "mlkem768.key": 64, "knock.seed": 32}


def unix_now() -> int:
    return int(time.time())


class NodeError(Exception):
    """Something that the operator of this node can act on: what, where, what to do."""


class NodeInfo(BaseModel):
    """Not secret. `node` and `realm` are ids on the wire, 32 hexadecimal digits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    node: str
    realm: str
    roles: list[str]
    ipv4: IPv4Interface
    """Overlay address with the length of the realm's range."""
    ipv6: IPv6Interface
    url: str


class NodeFiles:
    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    def make_keys(self) -> None:
        """Make the private keys that are missing; a second call changes nothing."""
        private_directory(self.state_dir)
        fresh: dict[str, Callable[[], bytes]] = {
            "identity.key": lambda: MLDSA65PrivateKey.generate().private_bytes_raw(),
            "x25519.key": lambda: X25519PrivateKey.generate().private_bytes_raw(),
            "mlkem768.key": lambda: MLKEM768PrivateKey.generate().private_bytes_raw(),
            "knock.seed": lambda: secrets.token_bytes(32),
        }
        for name, make in fresh.items():
            if not (self.state_dir / name).exists():
                write_private(self.state_dir / name, make())

    @property
    def enrolled(self) -> bool:
        return (self.state_dir / "node.json").exists()

    def identity(self) -> MLDSA65PrivateKey:
        return MLDSA65PrivateKey.from_seed_bytes(self._key("identity.key"))

    def identity_key(self) -> bytes:
        """Public ML-DSA-65 key."""
        return self.identity().public_key().public_bytes_raw()

    def node_keys(self) -> NodeKeys:
        """What the engine needs of the private keys; the identity key is not among them."""
        return NodeKeys(
            node_id=key_id(self.identity_key()),
            x25519=self._key("x25519.key"),
            mlkem768=self._key("mlkem768.key"),
            knock_seed=self._key("knock.seed"),
        )

    def info(self) -> NodeInfo:
        return NodeInfo.model_validate_json(self.read("node.json"))

    def credential(self) -> str:
        return self.read("credential").decode()

    def ca_key(self) -> bytes:
        return self.read("ca.key")

    def master_pem(self) -> str | None:
        """Pinned TLS certificate; None when the system's authorities decide."""
        path = self.state_dir / "master.pem"
        return path.read_text() if path.exists() else None

    def make_descriptor(self, endpoints: tuple[Endpoint, ...], now: int, seconds: int) -> bytes:
        """New signed descriptor, kept on disk; its serial is above the last one's."""
        last = self.descriptor(now)
        keys = self.node_keys()
        descriptor = Descriptor(
            node=keys.node_id,
            serial=max(now, last.serial + 1 if last else 0),
            x25519=X25519PrivateKey.from_private_bytes(keys.x25519).public_key().public_bytes_raw(),
            mlkem768=MLKEM768PrivateKey.from_seed_bytes(keys.mlkem768).public_key().public_bytes_raw(),
            knock_seed=keys.knock_seed,
            endpoints=endpoints,
            issued=now,
            expires=now + seconds,
            taints=self.worn(),
        )
        data = sign_descriptor(descriptor, self.identity()).encode()
        self.write("descriptor.json", data)
        return data

    def wear(self, taints: frozenset[str] | None) -> None:
        """Keep on only these of the granted taints, None: all of them; the key daemon says so with its next contact."""
        if taints is None:
            (self.state_dir / "taints.json").unlink(missing_ok=True)
        else:
            self.write("taints.json", canonical_json(sorted(check_taint(taint) for taint in taints)))

    def worn(self) -> frozenset[str] | None:
        """What `wear` said. A file that can't be read wears nothing: narrower is safe."""
        try:
            stated = json.loads((self.state_dir / "taints.json").read_bytes())
            return frozenset(check_taint(taint) for taint in stated)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, DirectoryError):
            return frozenset()

    def descriptor(self, now: int) -> Descriptor | None:
        """Our last descriptor if there is one that is still good."""
        try:
            return verify_descriptor((self.state_dir / "descriptor.json").read_bytes(), self.identity_key(), now)
        except (FileNotFoundError, DirectoryError):
            return None

    def read(self, name: str) -> bytes:
        path = self.state_dir / name
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise NodeError(
                f"{path} is missing: this node is not enrolled; run `up` with an enrolment token"
            ) from error
        except PermissionError as error:
            raise NodeError(f"{path} is not readable: run as root") from error

    def write(self, name: str, data: bytes) -> None:
        write_private(self.state_dir / name, data)

    def _key(self, name: str) -> bytes:
        data = self.read(name)
        if len(data) != KEY_LENGTHS[name]:
            raise NodeError(f"{self.state_dir / name} has {len(data)} bytes, not {KEY_LENGTHS[name]}: restore it")
        return data


def read_info(files: NodeFiles) -> NodeInfo:
    """`files.info()`, with a damaged file as a NodeError."""
    try:
        return files.info()
    except ValidationError as error:
        raise NodeError(
            f"{files.state_dir / 'node.json'} is damaged: enrol again in an empty state directory"
        ) from error
