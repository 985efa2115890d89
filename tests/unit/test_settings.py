"""Settings: a wrong value or a misspelt name stops the process with words that help, and secrets stay secret."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kiejobs.errors import SettingsError
from kiejobs.settings import Settings, checked_tenant, environment_name, load, names, only, set_here


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, where a test may lay a `.env`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load()


def refused(monkeypatch: pytest.MonkeyPatch, **values: str) -> SettingsError:
    with pytest.raises(SettingsError) as raised:
        given(monkeypatch, **values)
    assert raised.value.remedy
    return raised.value


def test_nothing_has_to_be_set(folder: Path) -> None:
    """The defaults are those of the contract, and lie in the data dir."""
    found = load()
    assert found.base_url == "https://api.kie.ai"
    assert (found.create_limit, found.create_window_s, found.create_margin_s) == (20, 10, 0.5)
    assert (found.poll_timeout_s, found.salvage_s, found.query_limit_per_s) == (600, 86400, 10)
    assert (found.lease_s, found.sweep_interval_s, found.sweep_grace_s) == (60, 10, 10)
    assert (found.http_timeout_s, found.download_timeout_s, found.max_output_bytes) == (30, 900, 2 * 1024**3)
    assert (found.submit, found.on_unconfirmed, found.embedded_broker) == ("on", "park", "auto")
    assert found.keys == {}
    assert found.broker is None
    assert found.database == f"sqlite:///{folder}/kiejobs-data/kiejobs.db"
    assert found.storage == f"{folder}/kiejobs-data/media"


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("KIEJOBS_CREATE_LIMITS", "KIEJOBS_CREATE_LIMIT"),
        ("KIEJOBS_DATABSE_URL", "KIEJOBS_DATABASE_URL"),
        ("KIEJOBS_POLL_TIMEOUT", "KIEJOBS_POLL_TIMEOUT_S"),
        ("KIEJOBS_STORE_URL", "KIEJOBS_STORAGE_URL"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_one_that_was_meant(
    wrong: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that silently does nothing is the worst kind."""
    assert str(refused(monkeypatch, **{wrong: "1"})) == f"{wrong} is not a setting of kiejobs. Did you mean {right}?"


def test_a_name_that_is_like_none_is_refused_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a guess, also where it is short and the prefix is most of it."""
    for name in ("KIEJOBS_QQQQQQQ", "KIEJOBS_FOO", "KIEJOBS_X"):
        with monkeypatch.context() as only:
            assert str(refused(only, **{name: "1"})) == f"{name} is not a setting of kiejobs."


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("KIEJOBS_DB_URL", "KIEJOBS_DATABASE_URL"),
        ("KIEJOBS_API_KEY", "KIE_API_KEY"),
        ("KIEJOBS_STORAGE", "KIEJOBS_STORAGE_URL"),
        ("KIEJOBS_LEASE", "KIEJOBS_LEASE_S"),
    ],
)
def test_a_name_that_is_close_is_still_guessed(monkeypatch: pytest.MonkeyPatch, typed: str, meant: str) -> None:
    """A word left out, or the prefix of the other names."""
    assert f"Did you mean {meant}?" in str(refused(monkeypatch, **{typed: "1"}))


@pytest.mark.parametrize("line", ["KIEJOBS_CREATE_LIMITS=5", "  export KIEJOBS_CREATE_LIMITS = 5"])
def test_a_misspelt_name_in_dotenv_is_refused_too(line: str, folder: Path) -> None:
    """`extra="forbid"` would not see it either way."""
    (folder / ".env").write_text(f"# ours\n{line}\n")
    with pytest.raises(SettingsError, match="Did you mean KIEJOBS_CREATE_LIMIT"):
        load()


def test_names_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The environment has much that is not ours; the switch of the live tests belongs to the tests."""
    (folder / ".env").write_text("KIEJOB=1\nOTHER_KIEJOBS_X=1\n#KIEJOBS_OLD=1\n")
    given(monkeypatch, KIEJOBS_LIVE_TESTS="1", KIEJOB="1", MY_KIEJOBS_THING="1")


def test_every_field_has_a_name_and_a_description() -> None:
    """What the page of settings is made from."""
    assert all(name.startswith(("KIE_", "KIEJOBS_", "AWS_", "OTEL_")) for name in names())
    assert len(set(names())) == len(names())
    assert all(info.description for info in Settings.model_fields.values())
    assert environment_name("http_timeout_s") == "KIEJOBS_HTTP_TIMEOUT_S"


def test_the_environment_goes_before_dotenv(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """And both before the defaults."""
    (folder / ".env").write_text("KIEJOBS_CREATE_LIMIT=7\nKIEJOBS_LEASE_S=30\n")
    found = given(monkeypatch, KIEJOBS_CREATE_LIMIT="9")
    assert (found.create_limit, found.lease_s) == (9, 30)


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KIEJOBS_CREATE_LIMIT", "many"),
        ("KIEJOBS_CREATE_LIMIT", "0"),
        ("KIEJOBS_CREATE_WINDOW_S", "0"),
        ("KIEJOBS_CREATE_MARGIN_S", "-1"),
        ("KIEJOBS_QUERY_LIMIT_PER_S", "0"),
        ("KIEJOBS_POLL_TIMEOUT_S", "-600"),
        ("KIEJOBS_POLL_TIMEOUT_S", "10 minutes"),
        ("KIEJOBS_HTTP_TIMEOUT_S", "0"),
        ("KIEJOBS_MAX_OUTPUT_BYTES", "2 GiB"),
        ("KIEJOBS_ON_UNCONFIRMED", "retry"),
        ("KIEJOBS_SUBMIT", "no"),
        ("KIEJOBS_LOG_LEVEL", "loud"),
        ("KIEJOBS_EMBEDDED_BROKER", "rabbit"),
        ("KIE_BASE_URL", "api.kie.ai"),
        ("KIE_UPLOAD_URL", "ftp://kie"),
        ("KIEJOBS_CELERY_TENANT", "Team A"),
        ("KIEJOBS_EGRESS_ALLOW", "127.0.0.1"),
        ("KIEJOBS_SWEEP_INTERVAL_S", "31"),
        ("KIEJOBS_SWEEP_INTERVAL_S", "0.1"),
        ("KIEJOBS_SWEEP_GRACE_S", "61"),
    ],
)
def test_a_wrong_value_stops_the_process_and_names_its_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name in the environment, not by the field's."""
    assert str(refused(monkeypatch, **{name: value})).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["KIEJOBS_HTTP_TIMEOUT_S", "KIEJOBS_POLL_TIMEOUT_S", "KIEJOBS_LEASE_S"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_duration_is_a_finite_number(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait of `inf` seconds cannot be written into a row."""
    refused(monkeypatch, **{name: value})


def test_a_dotenv_that_is_no_text_stops_the_process_with_words(folder: Path) -> None:
    """Saved by an editor in another encoding."""
    (folder / ".env").write_bytes("KIEJOBS_CELERY_TENANT=größe\n".encode("latin-1"))
    with pytest.raises(SettingsError):
        load()


def test_a_slash_at_the_end_of_a_host_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are appended to it."""
    assert given(monkeypatch, KIE_BASE_URL="http://127.0.0.1:8000/").base_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "address",
    [
        "https://",
        "https://:443",
        "https://api.kie.ai:99999",
        "https://api.kie.ai:no",
        "http://[::1",
        "https://user:word@api.kie.ai",
        "https://api.kie.ai/?to=elsewhere",
        "https://api.kie.ai/#there",
        "api.kie.ai",
    ],
)
def test_an_address_of_kie_that_cannot_be_dialled_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Not by every look at a paid job."""
    assert "KIE_BASE_URL" in str(refused(monkeypatch, KIE_BASE_URL=address))


def test_an_error_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """I11, also at the start."""
    accounts = json.dumps({"main": {"key": "sk-very-secret", "surprise": 1}})
    error = refused(monkeypatch, KIEJOBS_ACCOUNTS=accounts)
    assert "sk-very-secret" not in str(error) + error.remedy
    assert error.__cause__ is None


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log line or a traceback."""
    found = given(
        monkeypatch,
        KIE_API_KEY="sk-very-secret",
        KIE_WEBHOOK_HMAC_KEY="hmac-very-secret",
        KIEJOBS_DATABASE_URL="postgresql+psycopg://kj:db-very-secret@db/kj",
        KIEJOBS_BROKER_URL="redis://:br-very-secret@redis/0",
        KIEJOBS_FLOWER_AUTH="admin:fl-very-secret",
        KIEJOBS_ACCOUNTS=json.dumps({"second": {"key": "ac-very-secret"}}),
    )
    assert "very-secret" not in repr(found) + str(found) + repr(found.keys)


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_api_key_is_that_of_the_default_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the webhook key beside it."""
    found = given(monkeypatch, KIE_API_KEY="sk-1", KIE_WEBHOOK_HMAC_KEY="hm-1").keys["default"]
    assert found.key.get_secret_value() == "sk-1"
    assert found.hmac_key is not None
    assert found.hmac_key.get_secret_value() == "hm-1"


@pytest.mark.parametrize("blank", ["", "   "])
def test_a_blank_api_key_is_none(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a compose file without a value leaves it."""
    assert given(monkeypatch, KIE_API_KEY=blank).keys == {}


def test_accounts_have_limits_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The general ones hold where an account says nothing."""
    accounts = {"fast": {"key": "sk-f", "create_limit": 100, "query_limit_per_s": 50}, "plain": {"key": "sk-p"}}
    found = given(monkeypatch, KIE_API_KEY="sk-d", KIEJOBS_ACCOUNTS=json.dumps(accounts), KIEJOBS_CREATE_LIMIT="15")
    assert set(found.keys) == {"default", "fast", "plain"}
    assert [found.create_limit_of(name) for name in ("fast", "plain", "default", "absent")] == [100, 15, 15, 15]
    assert [found.query_limit_of(name) for name in ("fast", "plain")] == [50, 10]


def test_an_account_named_default_goes_before_the_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longer form says more."""
    found = given(monkeypatch, KIE_API_KEY="sk-1", KIEJOBS_ACCOUNTS='{"default": {"key": "sk-2"}}')
    assert found.keys["default"].key.get_secret_value() == "sk-2"


@pytest.mark.parametrize(
    "value",
    [
        "main:sk-1",
        "[]",
        '{"main": "sk-1"}',
        '{"main": {}}',
        '{"main": {"key": "sk-1", "limit": 5}}',
        '{"main": {"key": "sk-1", "create_limit": 0}}',
        '{"main": {"key": "sk-1", "query_limit_per_s": 0}}',
    ],
)
def test_accounts_that_cannot_be_read_stop_the_process(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as `KIEJOBS_ACCOUNTS`, whatever is wrong inside."""
    assert "KIEJOBS_ACCOUNTS" in str(refused(monkeypatch, KIEJOBS_ACCOUNTS=value))


# ── lists, addresses, up.json ────────────────────────────────────────────────────────────────────────────────────────


def test_egress_exceptions_are_exact_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in lower case, IPv6 without its brackets, blanks forgiven."""
    found = given(monkeypatch, KIEJOBS_EGRESS_ALLOW=" Media.Example:8443 , 127.0.0.1:80,[::1]:9000, ")
    assert found.egress_allow == {("media.example", 8443), ("127.0.0.1", 80), ("::1", 9000)}
    assert given(monkeypatch, KIEJOBS_EGRESS_ALLOW="").egress_allow == frozenset()


@pytest.mark.parametrize("value", ["media.example", ":80", "media.example:http", "media.example:", "a:80;b:80"])
def test_an_egress_exception_without_host_and_port_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole host is never excepted."""
    refused(monkeypatch, KIEJOBS_EGRESS_ALLOW=value)


@pytest.mark.parametrize("value", ["default", "a", "team-1", "0", "x" * 63, "a_b"])
def test_a_tenant_is_a_word_that_fits_into_a_key(value: str) -> None:
    """Lower-case letters, digits, - and _."""
    assert checked_tenant(value) == value


@pytest.mark.parametrize("value", ["", "A", "-a", "_a", "a b", "a/b", "x" * 64, "größe", "a\n"])
def test_what_is_no_tenant_is_refused(value: str) -> None:
    """Also with a newline at the end, which `$` would let through."""
    with pytest.raises(ValueError, match="is no tenant name"):
        checked_tenant(value)


UP = json.dumps({"pid": 4711, "broker_url": "redis://127.0.0.1:7001/0"})


@contextmanager
def up_with(folder: Path, content: str, *, running: bool = True) -> Iterator[None]:
    """The files of a `kiejobs up`; a running one holds its lock."""
    home = folder / "kiejobs-data"
    home.mkdir(exist_ok=True)
    (home / "up.json").write_text(content)
    with (home / "up.lock").open("w") as lock:
        if running:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_running_up_lends_its_broker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command in that folder finds it; what is set goes before it."""
    with up_with(folder, UP):
        assert load().broker == "redis://127.0.0.1:7001/0"
        assert given(monkeypatch, KIEJOBS_BROKER_URL="redis://elsewhere/0").broker == "redis://elsewhere/0"


def test_what_an_up_that_was_killed_left_behind_is_not_believed(folder: Path) -> None:
    """Nobody holds the lock any more; its process id may be somebody else's by now."""
    with up_with(folder, UP, running=False):
        assert load().running_up == {}
        assert load().broker is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "17", "{}", '{"broker_url": null}'])
def test_a_file_of_a_running_up_that_says_nothing_lends_nothing(content: str, folder: Path) -> None:
    """Cut, empty, or not yet written whole."""
    with up_with(folder, content):
        assert load().broker is None


def test_settings_cannot_be_changed() -> None:
    """One frozen object for the whole process."""
    with pytest.raises(ValueError, match="frozen"):
        load().create_limit = 5  # type: ignore[misc]


# ── some of them alone ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_asked_for_is_read_and_nothing_else(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The environment goes before `.env`, an empty value is none, and what is wrong with the others does not matter."""
    (folder / ".env").write_text("KIE_API_KEY=of-dotenv\nKIE_BASE_URL=http://dotenv\nKIEJOBS_CREATE_LIMIT=many\n")
    monkeypatch.setenv("KIE_BASE_URL", "http://environment")
    monkeypatch.setenv("KIEJOBS_EGRESS_ALLOW", "")
    monkeypatch.setenv("KIEJOBS_ACCOUNTS", "no JSON")
    asked = ("KIE_API_KEY", "KIE_BASE_URL", "KIEJOBS_EGRESS_ALLOW", "KIEJOBS_PUBLIC_URL")
    assert set_here(asked) == {"KIE_API_KEY": "of-dotenv", "KIE_BASE_URL": "http://environment"}


def test_settings_of_given_values_know_no_environment(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Neither the environment nor `.env`; and a wrong value is told like any other."""
    (folder / ".env").write_text("KIE_API_KEY=of-dotenv\n")
    monkeypatch.setenv("KIEJOBS_LEASE_S", "7")
    found = only({"KIE_BASE_URL": "http://given/"})
    assert (found.keys, found.lease_s, found.base_url) == ({}, 60, "http://given")
    with pytest.raises(SettingsError, match="KIE_BASE_URL: must start with http"):
        only({"KIE_BASE_URL": "given"})
