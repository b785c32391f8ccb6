"""Finding and loading: environment above file, arguments above both, and each finding with its line."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tierq_shared import configuration
from tierq_shared.configuration import (
    MAX_SOCKET_BYTES,
    EmbeddedPaths,
    embedded_paths,
    find_file,
    key_variable,
    load,
    resolve_base_url,
    resolve_key,
    sources,
    with_embedded_urls,
)
from tierq_shared.deployments import Deployment
from tierq_shared.errors import ConfigurationError
from tierq_shared.settings import Settings

MINI = '[deployments.mini]\nprovider = "openai"\nmodel = "m"\n'
Findings = Callable[[str], list[str]]


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    """What a file is refused with, a line a finding, without the file's folder."""

    def read(text: str) -> list[str]:
        file = tmp_path / "tierq.toml"
        file.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            load(file, env={})
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return read


# Findings.

UNKNOWN = "there is no such key"


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("version = 1\nbroker_ur = 'x'", f"2: broker_ur: {UNKNOWN} (did you mean 'broker_url'?)"),
        ("path = 'x'", f"1: path: {UNKNOWN}"),
        ("pth = 'x'", f"1: pth: {UNKNOWN}"),
        ("[tier.small]\nchain = []", f"1: tier: {UNKNOWN} (did you mean 'tiers'?)"),
        (
            MINI + "[tiers.a]\nchain = ['mini']\nmax_inflight = 1",
            f"6: tiers.a.max_inflight: {UNKNOWN} (did you mean 'max_in_flight'?)",
        ),
        (MINI + "modl = 'x'", f"4: deployments.mini.modl: {UNKNOWN} (did you mean 'model'?)"),
        (
            MINI + "[deployments.mini.price]\ninput = 1\noutput = 2\ncashed = 1",
            f"7: deployments.mini.price.cashed: {UNKNOWN} (did you mean 'cached'?)",
        ),
        (
            MINI + "price = { input = 1, output = 2, cashed = 1 }",
            f"4: deployments.mini.price.cashed: {UNKNOWN} (did you mean 'cached'?)",
        ),
        (
            "[deployments]\n" + "mini = { provider = 'openai', model = 'm', modl = 'x' }",
            f"2: deployments.mini.modl: {UNKNOWN} (did you mean 'model'?)",
        ),
        (
            MINI + "[tiers.a]\nchain = ['mini']\n[[policy]]\ntier = 'a'\n[[policy]]\nnam = 'x'\ntier = 'a'",
            f"9: policy.1.nam: {UNKNOWN} (did you mean 'name'?)",
        ),
        ("[worker]\nleese = 1", f"2: worker.leese: {UNKNOWN} (did you mean 'lease'?)"),
        ("[flower]\nprot = 1", f"2: flower.prot: {UNKNOWN} (did you mean 'port'?)"),
        (MINI + "nmae = 'x'", f"4: deployments.mini.nmae: {UNKNOWN}"),
        (
            MINI + "name = 'x'",
            f"4: deployments.mini.name: {UNKNOWN}: the name is the one in [deployments.mini]",
        ),
    ],
)
def test_an_unknown_key_has_its_line_and_what_was_probably_meant(findings: Findings, text: str, finding: str) -> None:
    assert findings(text) == [f"tierq.toml:{finding}"]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("version = 2", "1: version: 2 is not known to this release; write version = 1"),
        ("\n[worker]\n\nlease = '1 year'", "4: worker.lease: '1 year' is no span of time: write it as 250ms, 60s"),
        ("[worker]\nlease = inf", "2: worker.lease: Input should be a finite number"),
        ("deployments = 5", "1: deployments: Input should be a valid dictionary"),
        ("[policy]\ntier = 'a'", "1: policy: Input should be a valid list"),
        ("database_url = 5", "1: database_url: Input should be a valid string"),
        (MINI + "headers = { a = 1 }", "4: deployments.mini.headers.a: Input should be a valid string"),
        ("[deployments.mini]\nmodel = 'm'", "1: deployments.mini.provider: Field required"),
        (MINI + "[tiers.a]\nchain = ['mni']", "5: tiers.a.chain: no deployment is named 'mni' (did you mean 'mini'?)"),
        (MINI + "[tiers.a]\nchain = []", "5: tiers.a.chain: List should have at least 1 item"),
    ],
)
def test_a_wrong_value_has_its_line(findings: Findings, text: str, finding: str) -> None:
    (found,) = findings(text)
    assert found.startswith(f"tierq.toml:{finding}")


@pytest.mark.parametrize("header", ['"my model"', '"qwen2.5:7b"', "'gpt-4.1'", "4"])
def test_a_deployment_of_any_name_is_found(findings: Findings, header: str) -> None:
    text = f'version = 1\n[deployments.{header}]\nprovider = "openai-compatible"\nmodel = "m"\n'
    name = header.strip("\"'")
    assert findings(text) == [f"tierq.toml:2: deployments.{name}: an openai-compatible server needs a base_url"]
    assert findings(text + "modl = 1") == [f"tierq.toml:5: deployments.{name}.modl: {UNKNOWN} (did you mean 'model'?)"]


def test_all_findings_are_listed(findings: Findings) -> None:
    assert [line.partition(": ")[0] for line in findings("versoin = 1\n[worker]\nleese = 1\ngrace = -1")] == [
        "tierq.toml:4",
        "tierq.toml:3",
        "tierq.toml:1",
    ]


def test_a_finding_never_shows_a_secret(findings: Findings) -> None:
    text = "".join(findings(MINI + "headers = { a = ['hunter2'] }\nbroker_ur = 'redis://:hunter2@host'"))
    assert "hunter2" not in text


def test_what_is_no_toml_or_no_text_or_no_file_says_so(findings: Findings, tmp_path: Path) -> None:
    assert findings("a =")[0].startswith("tierq.toml: this is no valid TOML: ")
    (tmp_path / "latin").write_bytes(b"\xff")
    for name in ("latin", "missing", "."):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            load(tmp_path / name, env={})


# What wins.


def url(settings: Settings) -> str | None:
    return settings.broker_url.get_secret_value() if settings.broker_url else None


@pytest.mark.parametrize(
    ("argument", "variable", "in_file", "expected"),
    [
        ("redis://argument", "redis://variable", "redis://file", "redis://argument"),
        (None, "redis://variable", "redis://file", "redis://variable"),
        (None, None, "redis://file", "redis://file"),
        (None, "", "redis://file", "redis://file"),
        ("redis://argument", None, None, "redis://argument"),
        (None, "redis://variable", None, "redis://variable"),
        (None, None, None, None),
    ],
)
def test_arguments_stand_above_the_environment_and_that_above_the_file(
    tmp_path: Path, argument: str | None, variable: str | None, in_file: str | None, expected: str | None
) -> None:
    file = tmp_path / "tierq.toml"
    file.write_text(f"broker_url = '{in_file}'" if in_file else "")
    env = {} if variable is None else {"TIERQ_BROKER_URL": variable}
    assert url(load(file, {"broker_url": argument}, env)) == expected


def test_without_a_file_the_environment_is_enough() -> None:
    assert url(load(env={"TIERQ_BROKER_URL": "redis://variable"})) == "redis://variable"
    assert load(env={}) == Settings()


def test_where_a_url_came_from_is_said(tmp_path: Path) -> None:
    file = tmp_path / "tierq.toml"
    file.write_text("broker_url = 'redis://file'")
    env = {"TIERQ_STATE_URL": "redis://variable"}
    assert sources(load(file, env=env), env) == {
        "database_url": "not set",
        "broker_url": str(file),
        "state_url": "environment TIERQ_STATE_URL",
    }


# Finding the file.


def test_the_nearest_file_upwards_is_found(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "tierq.toml").touch()
    assert find_file(below, env={}) == tmp_path / "tierq.toml"
    (below / "tierq.toml").touch()
    assert find_file(below, env={}) == below / "tierq.toml"


def test_a_file_that_is_named_wins_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "tierq.toml").touch()
    other = tmp_path / "other.toml"
    with pytest.raises(ConfigurationError, match=rf"^TIERQ_CONFIG names {re.escape(str(other))}, which is no file$"):
        find_file(tmp_path, env={"TIERQ_CONFIG": str(other)})
    other.touch()
    assert find_file(tmp_path, env={"TIERQ_CONFIG": str(other)}) == other


# Keys and addresses.


def deployment(provider: str = "openai", **fields: str) -> Deployment:
    return Deployment.model_validate({"name": "d", "provider": provider, "model": "m", **fields})


def test_a_key_comes_from_the_environment_alone() -> None:
    key = resolve_key(deployment(), {"OPENAI_API_KEY": " hunter2\n"})
    assert isinstance(key, SecretStr)
    assert key.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{key}{key!r}"
    assert resolve_key(deployment(), {"OPENAI_API_KEY": " "}) is None
    assert resolve_key(deployment(key_env="OWN"), {"OPENAI_API_KEY": "hunter2"}) is None
    assert key_variable(deployment("openai-compatible", base_url="http://host")) is None


@pytest.mark.parametrize(
    ("fields", "env", "expected"),
    [
        ({"base_url": "https://own/v1/"}, {"OPENAI_BASE_URL": "http://sdk"}, "https://own/v1"),
        ({}, {"OPENAI_BASE_URL": "https://sdk/"}, "https://sdk"),
        ({}, {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "http://127.0.0.1:1/v1"),
        ({}, {}, "https://api.openai.com/v1"),
    ],
)
def test_an_address_is_its_own_else_the_sdks_else_the_providers(
    fields: dict[str, str], env: dict[str, str], expected: str
) -> None:
    assert resolve_base_url(deployment(**fields), env).base_url == expected


# The embedded stack.


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None, str], None]:
    """Sets XDG_RUNTIME_DIR and the folder for temporary files."""

    def put(runtime: str | None, temporary: str = "/var/tmp") -> None:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        if runtime is not None:
            monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)

    return put


def test_the_socket_lies_in_the_users_runtime_folder(places: Callable[..., None]) -> None:
    paths = EmbeddedPaths(Path("/home/me/app/.tierq"))
    places("/run/user/1000")
    assert paths.socket.parent.parent == Path("/run/user/1000")
    assert paths.socket.parent.name.startswith(f"tierq-{os.getuid()}-")
    places(None)
    assert paths.socket.parent.parent == Path("/var/tmp")
    assert EmbeddedPaths(Path("/home/me/other/.tierq")).socket != paths.socket


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(lambda sign, count: sign * count, st.sampled_from("aé"), st.integers(0, 120)),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
def test_a_sockets_path_is_never_too_long(places: Callable[..., None], folder: str, runtime: bool, root: str) -> None:
    places(f"/run/{folder}" if runtime else None, f"/var/{folder}")
    socket = EmbeddedPaths(Path("/home", root)).socket
    assert len(os.fsencode(socket)) <= MAX_SOCKET_BYTES


@pytest.mark.parametrize("runtime", [True, False])
def test_a_place_that_is_one_byte_too_long_is_left_for_tmp(places: Callable[..., None], runtime: bool) -> None:
    paths = EmbeddedPaths(Path("/home/me/app/.tierq"))
    name = f"/{paths.runtime.name}/redis.sock"
    longest = "/" + "x" * (MAX_SOCKET_BYTES - len(name) - 1)
    for folder, expected in ((longest, longest), (longest + "x", "/tmp")):
        places(folder if runtime else None, folder)
        assert paths.runtime.parent == Path(expected)
        assert len(os.fsencode(paths.socket)) <= MAX_SOCKET_BYTES


def test_the_embedded_urls_hold_where_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tierq.toml"
    embedded = with_embedded_urls(Settings(path=file))
    paths = embedded_paths(file)
    assert paths.root == tmp_path / ".tierq"
    assert embedded.database_url is not None
    assert embedded.database_url.get_secret_value() == f"sqlite:///{tmp_path}/.tierq/tierq.db"
    assert url(embedded) == f"redis+socket://{paths.socket}?virtual_host=0"
    named = load(env={"TIERQ_DATABASE_URL": "sqlite://"})
    assert with_embedded_urls(named) is named


def test_a_stack_without_a_file_lies_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert embedded_paths(None) == embedded_paths(None, tmp_path) == EmbeddedPaths(tmp_path / ".tierq")


def test_every_place_of_a_file_has_a_line() -> None:
    assert configuration.line_of("", ["worker", "lease"]) == 1
    assert configuration.line_of("[worker]\nlease = 1\n[flower]\nport = 1", ["flower", "port"]) == 4
