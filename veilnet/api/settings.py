# SPDX-License-Identifier: Apache-2.0
"""The Master's configuration: one frozen object, read from the state directory that `veilnet master init` made."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from veilnet.api.platform.rate_limit import RateSettings
from veilnet.api.retention.settings import RetentionSettings
from veilnet.api.times import DAY
from veilnet.files import private_directory, write_private


class SetupError(Exception):
    """The Master can't start as it is set up; the text says what to do."""


class MasterSettings(BaseModel):
    """`public_url` is what nodes connect to; `tls_fingerprint` (SHA-256, hex) is pinned by every token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_dir: Path
    public_url: str
    tls_fingerprint: str | None
    database_url: str
    heartbeat_seconds: float = Field(default=20, gt=0)
    certificate_seconds: int = Field(default=7 * DAY, gt=0)
    """The epoch: for so long a node counts that was revoked while others can't reach the Master."""
    grace_seconds: int = Field(default=30 * DAY, ge=0)
    """After its certificate's end, for which a node may still come back without enrolling again."""
    ephemeral_seconds: int = Field(default=1800, ge=60)
    """Away for so long, a node that enrolled with an ephemeral token is deleted."""
    snapshot_seconds: int = Field(default=30 * DAY, gt=0)
    """Life of a realm's head."""
    head_renew_seconds: int = Field(default=3600, gt=0)
    """How often the realm's head is signed anew: nodes learn the time from it."""
    rates: RateSettings = RateSettings()
    retention: RetentionSettings = RetentionSettings()
    webhooks_to_private_addresses: bool = False
    """Also allows http: for receivers in the Master's own network."""

    @property
    def realms_dir(self) -> Path:
        return self.state_dir / "realms"

    @property
    def seal_key(self) -> Path:
        return self.state_dir / "seal.key"

    @property
    def backups_dir(self) -> Path:
        return self.state_dir / "backups"

    @property
    def tls_certificate(self) -> Path:
        return self.state_dir / "tls.pem"

    @property
    def tls_key(self) -> Path:
        return self.state_dir / "tls.key"


def settings_file(state_dir: Path) -> Path:
    return state_dir / "master.json"


def save_settings(settings: MasterSettings) -> None:
    private_directory(settings.state_dir)
    write_private(settings_file(settings.state_dir), settings.model_dump_json(indent=2).encode())


def load_settings(state_dir: Path) -> MasterSettings:
    path = settings_file(state_dir)
    try:
        return MasterSettings.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        what = f"{path} does not exist: name the Master's directory with --state-dir, or make one"
        raise SetupError(f"{what} with `veilnet master init`") from error
    except PermissionError as error:
        raise SetupError(f"{path} is not readable by this user: run as the user that ran `master init`") from error
    except ValidationError as error:
        fields = ", ".join(str(item["loc"][0]) for item in error.errors() if item["loc"])
        raise SetupError(f"{path} is not a Master's configuration (wrong: {fields or 'not JSON'})") from error
