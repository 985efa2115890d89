"""Settings: one frozen object, read once from the environment and `.env`.

The only reader of the environment. A wrong value or a misspelt `KIEJOBS_*` name stops the process with the remedy;
nothing is guessed. Durations end in `_s` (seconds), sizes in `_bytes`. `docs/settings.md` is generated from this class.
"""

import base64
import difflib
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from kiejobs.errors import SettingsError
from kiejobs.jobs import DEFAULT_ACCOUNT, DEFAULT_TENANT

GIB = 1024**3
CALLBACK_FILE = "callback-secret"
WEBHOOK_FILE = "webhook-secret"
"""Where the data dir keeps the secrets that were made because none was set."""
_OUTSIDE = frozenset({"KIEJOBS_LIVE_TESTS"})
"""Names that belong to the tests, not to the product."""
_NEAR = 0.8
"""How alike a name must be to be the one that was meant: the prefix alone makes any two names half alike."""


class AccountSettings(BaseModel):
    """One Kie account of `KIEJOBS_ACCOUNTS`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: SecretStr
    hmac_key: SecretStr | None = None
    create_limit: int | None = Field(default=None, ge=1)
    query_limit_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @field_validator("key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        return usable_key(value)


class GatewayKey(BaseModel):
    """One key of `KIEJOBS_GATEWAY_KEYS`: whose it is, what it allows, and the SHA-256 that it is known by."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    scope: Literal["read", "write", "admin"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)

    @field_validator("tenant")
    @classmethod
    def _tenant_word(cls, value: str) -> str:
        return checked_tenant(value)


class Settings(BaseSettings):
    """Everything that can be set. Each field's alias is its name in the environment."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        allow_inf_nan=False,
    )

    api_key: SecretStr | None = Field(None, alias="KIE_API_KEY", description="Key of account `default`.")
    accounts: dict[str, AccountSettings] = Field(
        default_factory=dict,
        alias="KIEJOBS_ACCOUNTS",
        description="JSON: name → `{key, hmac_key, create_limit, query_limit_per_s}`.",
    )
    base_url: str = Field("https://api.kie.ai", alias="KIE_BASE_URL", description="Kie's API host.")
    upload_url: str = Field("https://kieai.redpandaai.co", alias="KIE_UPLOAD_URL", description="Kie's upload host.")
    webhook_hmac_key: SecretStr | None = Field(
        None, alias="KIE_WEBHOOK_HMAC_KEY", description="Kie's signature key of account `default`."
    )
    data_dir: Path = Field(
        Path("kiejobs-data"),
        alias="KIEJOBS_DATA_DIR",
        description="Local files of ours. `kiejobs up` writes `up.json` there, which every command in that folder reads.",
    )
    database_url: SecretStr | None = Field(
        None,
        alias="KIEJOBS_DATABASE_URL",
        description="Default: SQLite in the data dir. PostgreSQL: `postgresql+psycopg://…`.",
    )
    broker_url: SecretStr | None = Field(
        None,
        alias="KIEJOBS_BROKER_URL",
        description="`redis://…` or RabbitMQ `amqp://…`. Embedded under `up` and `demo`, required elsewhere.",
    )
    embedded_broker: Literal["auto", "redis", "fakeredis"] = Field(
        "auto", alias="KIEJOBS_EMBEDDED_BROKER", description="Which embedded broker `up` and `demo` run."
    )
    storage_url: str | None = Field(
        None,
        alias="KIEJOBS_STORAGE_URL",
        description="Default: `media` in the data dir. A folder, or `s3://bucket/prefix` and others that obstore opens; "
        "credentials by the usual `AWS_*` names, `AWS_ENDPOINT_URL` for S3-compatible servers.",
    )
    storage_endpoint_url: str | None = Field(
        None, alias="AWS_ENDPOINT_URL", description="Endpoint of an S3-compatible server."
    )
    storage_endpoint_url_s3: str | None = Field(
        None,
        alias="AWS_ENDPOINT_URL_S3",
        description="The same for S3 alone; wins where both are set, as in AWS's tools.",
    )
    storage_key_id: SecretStr | None = Field(
        None,
        alias="AWS_ACCESS_KEY_ID",
        description="Who writes to the bucket. Unset: the role of the pod, container or instance; no profile is read.",
    )
    storage_secret: SecretStr | None = Field(None, alias="AWS_SECRET_ACCESS_KEY", description="The secret of that key.")
    storage_token: SecretStr | None = Field(
        None, alias="AWS_SESSION_TOKEN", description="The session token of a temporary key."
    )
    storage_region: str | None = Field(
        None, alias="AWS_REGION", description="The bucket's region; S3-compatible servers often name one of their own."
    )
    storage_host_style: str | None = Field(
        None,
        alias="AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        description="`true`: the bucket is in the host's name, `false`: in the path. Unset: in the path, unless the "
        "endpoint's host begins with it.",
    )
    public_url: str | None = Field(
        None,
        alias="KIEJOBS_PUBLIC_URL",
        description="Where Kie can call back. Unset: no callbacks, polling alone.",
    )
    callback_secret: SecretStr | None = Field(
        None,
        alias="KIEJOBS_CALLBACK_SECRET",
        description="Signs the addresses that Kie calls back. Default: made in the data dir; with PostgreSQL and a public "
        "URL it must be set.",
    )
    webhook_secrets: SecretStr | None = Field(
        None,
        alias="KIEJOBS_WEBHOOK_SECRETS",
        description="`whsec_…,…`, newest first: signs messages to producers. Default: made in the data dir; with "
        "PostgreSQL it must be set where messages are sent.",
    )
    gateway_keys: Annotated[tuple[GatewayKey, ...], NoDecode] = Field(
        (),
        alias="KIEJOBS_GATEWAY_KEYS",
        description="`tenant:scope:sha256hex,…`, made by `kiejobs keys new`; scopes `read`, `write`, `admin`. Unset: the "
        "gateway listens on loopback only, for tenant `default`.",
    )
    celery_tenant: str = Field(
        DEFAULT_TENANT, alias="KIEJOBS_CELERY_TENANT", description="Tenant of jobs that come as bare Celery messages."
    )
    egress_allow: Annotated[frozenset[tuple[str, int]], NoDecode] = Field(
        frozenset(),
        alias="KIEJOBS_EGRESS_ALLOW",
        description="`host:port,…`, exact exceptions to the ban on private addresses.",
    )
    create_limit: int = Field(20, ge=1, alias="KIEJOBS_CREATE_LIMIT", description="Creates per window and account.")
    create_window_s: float = Field(10.0, gt=0, alias="KIEJOBS_CREATE_WINDOW_S", description="The create window.")
    create_margin_s: float = Field(
        0.5, ge=0, alias="KIEJOBS_CREATE_MARGIN_S", description="Added to the window, for the way to Kie."
    )
    query_limit_per_s: float = Field(
        10.0,
        gt=0,
        alias="KIEJOBS_QUERY_LIMIT_PER_S",
        description="Reads per account. Kie documents 10, cautious users set 2 or 3.",
    )
    poll_timeout_s: float = Field(600.0, gt=0, alias="KIEJOBS_POLL_TIMEOUT_S", description="When `timeout` is told.")
    salvage_s: float = Field(
        86400.0, gt=0, alias="KIEJOBS_SALVAGE_S", description="How long the slow tail looks after that."
    )
    lease_s: float = Field(60.0, gt=0, alias="KIEJOBS_LEASE_S", description="How long a copy's claim lasts unrenewed.")
    sweep_interval_s: float = Field(
        10.0,
        ge=0.5,
        le=30,  # `readyz`, the health page and an alert take a sweep that is a minute old for one that does not run
        alias="KIEJOBS_SWEEP_INTERVAL_S",
        description="How often beat runs the sweep, from 0.5 to 30.",
    )
    sweep_grace_s: float = Field(
        10.0,
        ge=0,
        le=60,  # with the longest interval, what was lost is found before the alert on late rows
        alias="KIEJOBS_SWEEP_GRACE_S",
        description="How overdue a row is before the sweep nudges it, up to 60.",
    )
    http_timeout_s: float = Field(
        30.0,
        gt=0,
        alias="KIEJOBS_HTTP_TIMEOUT_S",
        description="Total time for one call to Kie. A look at a record has 10 s of it, the one after no answer has all.",
    )
    download_timeout_s: float = Field(
        900.0,
        gt=0,
        alias="KIEJOBS_DOWNLOAD_TIMEOUT_S",
        description="Time for one copy. A file that is declared to be large has as long as 1 MiB/s takes.",
    )
    max_output_bytes: int = Field(
        2 * GIB, gt=0, alias="KIEJOBS_MAX_OUTPUT_BYTES", description="Largest file that is stored."
    )
    on_unconfirmed: Literal["park", "resubmit"] = Field(
        "park",
        alias="KIEJOBS_ON_UNCONFIRMED",
        description="What becomes of a create call with an unknown outcome. `resubmit` sends it again, once, 30 minutes "
        "later (it may be paid twice), and needs `KIEJOBS_PUBLIC_URL`.",
    )
    spend_caps: Annotated[dict[str, float], NoDecode] = Field(
        default_factory=dict, alias="KIEJOBS_SPEND_CAPS", description="`tenant:credits per day,…` (days in UTC)."
    )
    queue_limit: int = Field(
        0,
        ge=0,
        alias="KIEJOBS_QUEUE_LIMIT",
        description="Most jobs of one tenant that wait to be sent; more are refused (429). 0: no limit.",
    )
    catalogue: Path | None = Field(
        None,
        alias="KIEJOBS_CATALOGUE",
        description="A folder of files that add to or override the model catalogue, see docs/catalogue.md.",
    )
    pacing: Literal["ladder", "learned"] = Field(
        "ladder",
        alias="KIEJOBS_PACING",
        description="`learned`: looks follow how long a model's latest generations took, where that needs fewer calls and "
        "finds results sooner than the ladder; a job is called late when it takes longer than 1.5 × the slowest of them, "
        "never before `KIEJOBS_POLL_TIMEOUT_S`.",
    )
    submit: Literal["on", "off"] = Field(
        "on", alias="KIEJOBS_SUBMIT", description="`off`: no creates (after restoring a database)."
    )
    retention_days: float = Field(
        180.0,
        gt=0,
        alias="KIEJOBS_RETENTION_DAYS",
        description="How long a job's rows are kept after its end. Stored media are kept for ever.",
    )
    flower_auth: SecretStr | None = Field(
        None, alias="KIEJOBS_FLOWER_AUTH", description="`user:password`. Default: made and printed by `kiejobs up`."
    )
    traces_endpoint: str | None = Field(
        None,
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Where a trace per job is sent (OTLP over HTTP, the extra `otel`). Unset: none is made.",
    )
    log_format: Literal["text", "json"] | None = Field(
        None, alias="KIEJOBS_LOG_FORMAT", description="Default: `text` on a terminal, else `json`."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="KIEJOBS_LOG_LEVEL", description="The least severe line that is logged."
    )

    @field_validator("egress_allow", mode="before")
    @classmethod
    def _split_egress(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [entry.strip().rpartition(":") for entry in value.split(",") if entry.strip()]
        if not all(_HOST.fullmatch(host) and port.isdecimal() for host, _, port in pairs):
            raise ValueError("write host:port, separated by commas")
        return frozenset((host.strip("[]").lower(), int(port)) for host, _, port in pairs)

    @field_validator("gateway_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        entries = [entry.strip().split(":") for entry in value.split(",") if entry.strip()]
        try:
            return tuple(GatewayKey(tenant=tenant, scope=scope, sha256=digest) for tenant, scope, digest in entries)
        except ValueError:
            raise ValueError(
                "write tenant:scope:sha256hex, separated by commas; `kiejobs keys new` makes one"
            ) from None

    @field_validator("catalogue", mode="before")
    @classmethod
    def _blank_is_unset(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        return usable_key(value) if value and value.get_secret_value().strip() else None

    @field_validator("spend_caps", mode="before")
    @classmethod
    def _split_caps(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [entry.strip().rpartition(":") for entry in value.split(",") if entry.strip()]
        try:
            return {checked_tenant(tenant): float(credits) for tenant, _, credits in pairs}
        except ValueError:
            raise ValueError("write tenant:credits, separated by commas") from None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.on_unconfirmed == "resubmit" and not self.public_url:
            raise ValueError("KIEJOBS_ON_UNCONFIRMED=resubmit needs KIEJOBS_PUBLIC_URL: only callbacks can tell first")
        if self.public_url and not self.callback_secret and not self.database.startswith("sqlite"):
            raise ValueError("KIEJOBS_PUBLIC_URL with PostgreSQL needs KIEJOBS_CALLBACK_SECRET, the same everywhere")
        return self

    @field_validator("webhook_secrets")
    @classmethod
    def _usable_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        for one in value.get_secret_value().split(",") if value else ():
            try:
                long_enough = len(base64.b64decode(one.strip().removeprefix("whsec_"), validate=True)) >= 24
            except ValueError:
                long_enough = False
            if not (one.strip().startswith("whsec_") and long_enough):
                raise ValueError("write whsec_ and at least 24 bytes in base64, several separated by commas")
        return value

    @field_validator("celery_tenant")
    @classmethod
    def _tenant_word(cls, value: str) -> str:
        return checked_tenant(value)

    @field_validator("base_url", "upload_url")
    @classmethod
    def _no_trailing_slash(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        try:
            split = urlsplit(value)
            whole = bool(split.hostname) and (split.port is None or split.port > 0)
        except ValueError:
            whole = False
        if not whole or split.username is not None or split.query or split.fragment:
            raise ValueError("must be an address like https://host or https://host:port/path")
        return value.rstrip("/")

    @cached_property
    def keys(self) -> dict[str, AccountSettings]:
        """The Kie accounts by name; `default` is `KIE_API_KEY`'s. Empty where no key is set."""
        named = dict(self.accounts)
        if self.api_key and self.api_key.get_secret_value().strip() and DEFAULT_ACCOUNT not in named:
            named[DEFAULT_ACCOUNT] = AccountSettings(key=self.api_key, hmac_key=self.webhook_hmac_key)
        return named

    def hmac_key_of(self, account: str) -> str | None:
        """Kie's signature key of one account; None where it has none. Needs no API key of the account."""
        own = self.keys.get(account)
        key = (own and own.hmac_key) or (self.webhook_hmac_key if account == DEFAULT_ACCOUNT else None)
        return (key.get_secret_value().strip() or None) if key else None

    def create_limit_of(self, account: str) -> int:
        """Creates per window of one account."""
        own = self.keys.get(account)
        return (own and own.create_limit) or self.create_limit

    def query_limit_of(self, account: str) -> float:
        """Reads per second of one account."""
        own = self.keys.get(account)
        return (own and own.query_limit_per_s) or self.query_limit_per_s

    @cached_property
    def callbacks_signed_with(self) -> str:
        """The secret of callback addresses: the one that is set, or the data dir's own, made when first needed."""
        if self.callback_secret:
            return self.callback_secret.get_secret_value()
        return kept_secret(self.data_dir / CALLBACK_FILE)

    @cached_property
    def webhooks_signed_with(self) -> list[str]:
        """The secrets of messages to producers, newest first: those that are set, or the data dir's own."""
        if self.webhook_secrets:
            return [one.strip() for one in self.webhook_secrets.get_secret_value().split(",") if one.strip()]
        if not self.database.startswith("sqlite"):
            raise SettingsError(
                "messages to producers cannot be signed",
                remedy="Set KIEJOBS_WEBHOOK_SECRETS, the same for every worker.",
            )
        made = kept_secret(self.data_dir / WEBHOOK_FILE)
        return [f"whsec_{base64.b64encode(made.encode()).decode()}"]

    @property
    def database(self) -> str:
        """The database's URL, with the default filled in."""
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'kiejobs.db'}"

    @property
    def broker(self) -> str | None:
        """The broker's URL, or that of a running `kiejobs up` in the data dir; None where there is neither."""
        if self.broker_url:
            return self.broker_url.get_secret_value()
        found = self.running_up.get("broker_url")
        return str(found) if found else None

    @property
    def storage_endpoint(self) -> str | None:
        """The address of the S3-compatible server; None for AWS itself."""
        return self.storage_endpoint_url_s3 or self.storage_endpoint_url or None

    @property
    def storage_access(self) -> dict[str, str]:
        """What is set of `access_key_id`, `secret_access_key`, `session_token`, `region`, `virtual_hosted_style_request`."""
        given = {"access_key_id": self.storage_key_id, "secret_access_key": self.storage_secret}
        secrets = {
            name: one.get_secret_value() for name, one in (given | {"session_token": self.storage_token}).items() if one
        }
        plain = {"region": self.storage_region, "virtual_hosted_style_request": self.storage_host_style}
        return {name: value for name, value in {**secrets, **plain}.items() if value}

    @property
    def storage(self) -> str:
        """The storage's URL, with the default filled in."""
        return self.storage_url or str(self.data_dir.absolute() / "media")

    @cached_property
    def running_up(self) -> dict[str, Any]:
        """What a running `kiejobs up` of this data dir says of itself; empty where none runs.

        A running one holds the lock on `up.lock`; a file that one left behind when it was killed is not believed.
        """
        try:
            with (self.data_dir / "up.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:
            return {}
        else:
            return {}
        try:
            found: dict[str, Any] = json.loads((self.data_dir / "up.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def load(**overrides: Any) -> Settings:
    """Read the settings. SettingsError names the wrong value, or the name that was probably meant."""
    _refuse_misspelt()
    with _explained():
        return Settings(**overrides)


class _Only(Settings):
    """Settings that read neither the environment nor `.env`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: Any,  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def only(given: Mapping[str, Any]) -> Settings:
    """Make settings from these values alone, by their names in the environment. SettingsError names the wrong one."""
    with _explained():
        return _Only.model_validate(given)


def set_here(wanted: Iterable[str], *, dotenv: bool = True) -> dict[str, str]:
    """Return what is set of these names in the environment or, behind it, in `.env`: their text, not looked at."""
    with _explained():
        behind = DotEnvSettingsSource(Settings).env_vars if dotenv else {}
        found = {**behind, **EnvSettingsSource(Settings).env_vars}
    values = {name: found.get(name.lower()) for name in wanted}  # case does not matter, as with `load`
    return {name: value for name, value in values.items() if value}


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what pydantic says into a SettingsError with a remedy."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        said = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:
            raise SettingsError(said, remedy="See docs/settings.md.") from None
        name = environment_name(str(first["loc"][0]))
        raise SettingsError(f"{name}: {said}", remedy=f"Set {name} as docs/settings.md describes.") from None
    except UnicodeDecodeError:
        raise SettingsError("`.env` is no UTF-8 text", remedy="Save it as UTF-8, one NAME=value per line.") from None
    except SourceError:
        raise SettingsError(
            "KIEJOBS_ACCOUNTS is no JSON", remedy='Write it like {"main": {"key": "…"}}, see docs/settings.md.'
        ) from None


def kept_secret(path: Path) -> str:
    """Return the secret in a file that only its owner may read; made with the first call, also by two at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_urlsafe(32))
    try:
        os.link(fresh, path)  # fails where it exists: the first one stays
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text().strip()


_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


def usable_key(value: SecretStr) -> SecretStr:
    """Return a key without the blanks around it; ValueError where no HTTP header could carry it."""
    key = value.get_secret_value().strip()
    if not key or not all("!" <= letter <= "~" for letter in key):
        raise ValueError("a key is printable ASCII without blanks")
    return SecretStr(key)


TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def checked_tenant(value: str) -> str:
    """Return a tenant's name if it is one: lower-case letters, digits, `-` and `_`, at most 63 characters."""
    if not TENANT.fullmatch(value):
        raise ValueError(f"{value!r} is no tenant name: lower-case letters, digits, - and _, at most 63")
    return value


def environment_name(field: str) -> str:
    """Return a field's name in the environment."""
    info = Settings.model_fields.get(field)
    alias = info.alias if info else field
    return str(alias if not isinstance(alias, AliasChoices) else field)


def names() -> list[str]:
    """Return every name that can be set in the environment."""
    return [environment_name(field) for field in Settings.model_fields]


def _given() -> set[str]:
    return {name for name in os.environ if name.startswith("KIEJOBS_")} | _dotenv_names()


def _refuse_misspelt() -> None:
    known = names()
    given = _given()
    for name in sorted(given - set(known) - _OUTSIDE):
        near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise SettingsError(f"{name} is not a setting of kiejobs.{meant}", remedy="See docs/settings.md.")


def _dotenv_names() -> set[str]:
    try:
        lines = Path(".env").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    found = (re.match(r"\s*(?:export\s+)?(KIEJOBS_\w+)\s*=", line) for line in lines)
    return {match.group(1) for match in found if match}
