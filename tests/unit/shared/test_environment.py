"""Secrets from variables and files, and the addresses that a key may be sent to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierq_shared.configuration import check_calls, load, resolve_base_url, resolve_key, sources
from tierq_shared.deployments import Deployment, fault_of_base_url
from tierq_shared.environment import MAX_BYTES, read
from tierq_shared.errors import ConfigurationError

OPENAI = Deployment(name="mini", provider="openai", model="m")


def test_a_key_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "openai"
    file.write_text("sk-hush\n")
    env = {"OPENAI_API_KEY_FILE": str(file), "OPENAI_API_KEY": ""}
    key = resolve_key(OPENAI, env)
    assert key is not None
    assert key.get_secret_value() == "sk-hush"
    secret = read("OPENAI_API_KEY", env)
    assert secret is not None
    assert secret.source == f"file {file} (OPENAI_API_KEY_FILE)"
    assert "hush" not in repr(secret)
    assert resolve_key(OPENAI.model_copy(update={"key_env": "OWN"}), {"OWN_FILE": str(file)}) == key


@pytest.mark.parametrize("name", ["database_url", "broker_url", "state_url"])
def test_a_url_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "url"
    file.write_text("redis://:hush@host/0\n")
    env = {f"TIERQ_{name.upper()}_FILE": str(file)}
    settings = load(env=env)
    assert getattr(settings, name).get_secret_value() == "redis://:hush@host/0"
    assert sources(settings, env)[name] == f"file {file} (TIERQ_{name.upper()}_FILE)"
    assert "hush" not in repr(settings)
    given = load(env=env, overrides={name: "redis://argument"})
    assert getattr(given, name).get_secret_value() == "redis://argument", "an argument of Client wins"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"names \S+/secret, which cannot be read \(No such file or directory\): put the secret there"),
        (b" \n", "which is empty: put the secret there, or set TIERQ_DATABASE_URL instead"),
        (b"h" * (MAX_BYTES + 1), f"which is larger than {MAX_BYTES:,} bytes"),
        (b"\xffhush", "which is no text"),
        (b"hush\nhush", "write it on one line"),
    ],
)
def test_a_file_that_cannot_be_used_says_how_to_mend_it(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=told) as caught:
        load(env={"TIERQ_DATABASE_URL_FILE": str(file)})
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_variable_and_its_file_exclude_each_other(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "sk-hush", "OPENAI_API_KEY_FILE": str(tmp_path / "f")}
    with pytest.raises(ConfigurationError, match=r"^OPENAI_API_KEY and OPENAI_API_KEY_FILE are both set: unset one"):
        resolve_key(OPENAI, env)


def test_a_key_of_two_lines_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY: holds a line break") as caught:
        check_calls([OPENAI], {"OPENAI_API_KEY": "sk-hush\r\nx-evil: 1"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example/v1",
        "http://localhost:11434/v1",
        "http://LOCALHOST/v1",
        "http://127.0.0.1:8000/v1",
        "http://127.8.9.1/v1",
        "http://[::1]:8000/v1",
    ],
)
def test_loopback_and_https_are_taken(url: str) -> None:
    assert fault_of_base_url(url, allow_plain_http=False) is None


@pytest.mark.parametrize(
    "url",
    ["http://vllm:8000/v1", "http://10.0.0.1/v1", "http://localhost.example/v1", "http://127.0.0.1.example/v1"],
)
def test_plain_http_to_another_machine_has_to_be_allowed(url: str) -> None:
    fault = fault_of_base_url(url, allow_plain_http=False)
    assert fault is not None
    assert "allow_plain_http = true" in fault
    assert fault_of_base_url(url, allow_plain_http=True) is None


@pytest.mark.parametrize("url", ["ftp://host", "api.example/v1", "https://", "https://host:port/v1", "file:///etc"])
def test_what_is_no_address_is_refused_even_where_plain_http_is_allowed(url: str) -> None:
    assert fault_of_base_url(url, allow_plain_http=True) == "this is no http(s) URL: write it as https://host/v1"


FILE = """
[tiers.small]
chain = ["own"]
[deployments.own]
provider = "openai-compatible"
model = "m"
base_url = "http://vllm:8000/v1"
"""


def test_a_file_with_plain_http_says_where_and_how_to_mend_it(tmp_path: Path) -> None:
    file = tmp_path / "tierq.toml"
    file.write_text(FILE)
    with pytest.raises(ConfigurationError) as caught:
        load(file, env={})
    assert str(caught.value).startswith(f"{file}:7: deployments.own.base_url: key and prompts would cross the network")
    file.write_text(FILE + "allow_plain_http = true\n")
    assert load(file, env={}).deployments["own"].allow_plain_http


def test_a_variable_with_plain_http_is_named() -> None:
    env = {"OPENAI_BASE_URL": "http://gateway:4000/v1"}
    with pytest.raises(ConfigurationError, match=r"^environment OPENAI_BASE_URL, for deployment mini: key and prompts"):
        check_calls([OPENAI], env)
    allowed = OPENAI.model_copy(update={"allow_plain_http": True})
    assert resolve_base_url(allowed, env).base_url == "http://gateway:4000/v1"


def test_a_password_in_a_variables_address_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"OPENAI_BASE_URL.*a password has no place here") as caught:
        resolve_base_url(OPENAI, {"OPENAI_BASE_URL": "https://me:hush@gateway/v1"})
    assert "hush" not in str(caught.value)
