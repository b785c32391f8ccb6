"""Webhooks as they are configured and signed: addresses, secrets, and faults that name the key and the mend."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from tierq_shared import configuration
from tierq_shared.addresses import fault_of_webhook_url, is_public, shown_url
from tierq_shared.errors import ConfigurationError
from tierq_shared.webhooks import Endpoint, headers, read_endpoints

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def endpoints(folder: Path, text: str, **env: str) -> list[Endpoint]:
    file = folder / "tierq.toml"
    file.write_text(text)
    return read_endpoints(configuration.load(file, env={}).webhooks, env)


# Signatures.


@given(st.text(), st.binary(min_size=24, max_size=64))
def test_a_signature_is_one_that_standard_webhooks_verifies(text: str, key: bytes) -> None:
    signed = headers("0198f3a2", int(time.time()), text.encode(), key)
    Webhook(key).verify(text, signed, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(text + " ", signed, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(key[::-1] + b"x").verify(text, signed, json_parse=False)


# Addresses.


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "0.0.0.0",
            "127.0.0.1",
            "127.8.8.8",
            "10.0.0.7",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
        ),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("::", "::1", "fc00::1", "fe80::1", "fe80::1%eth0", "ff02::1", "2001:db8::1"),
        # Others that end at a private IPv4 address.
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a00:7::1"),
    ],
)
def test_all_others_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("hooks.example.com/x", "write it as https://host/path"),
        ("ftp://hooks.example.com/x", "write it as https://host/path"),
        ("https://", "write it as https://host/path"),
        ("https://hooks.example.com:99999/", "write it as https://host/path"),
        ("https://hooks.example.com/a b", "write it as https://host/path"),
        ("https://user:pass@hooks.example.com/", "a password has no place here"),
        ("https://hooks.example.com/#part", "leave it out"),
        ("http://hooks.example.com/", "allow_private = true"),
        ("https://localhost/", "allow_private = true"),
        ("https://10.0.0.7/", "allow_private = true"),
        ("https://[::1]/", "allow_private = true"),
    ],
)
def test_an_address_that_cannot_be_used_is_said_with_its_place_and_mend(url: str, mend: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tierq\.toml:3: webhooks\.0\.url: ") as caught:
        endpoints(tmp_path, f'[[webhooks]]\nmin_tasks = 1\nurl = "{url}"')
    assert mend in str(caught.value)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://10.0.0.7:8080/x", "https://localhost/", "http://receiver.internal/"])
def test_a_private_address_may_be_allowed(url: str) -> None:
    assert fault_of_webhook_url(url, allow_private=True) is None


def test_what_may_be_secret_in_a_url_is_not_shown() -> None:
    assert shown_url("https://u:p@h.example:8443/a/b?token=t#f") == "https://h.example:8443/a/b"


def test_two_webhooks_that_nobody_could_tell_apart_are_refused(tmp_path: Path) -> None:
    text = '[[webhooks]]\nurl = "https://h.example/x?a=1"\n[[webhooks]]\nurl = "https://h.example/x?a=2"'
    with pytest.raises(ConfigurationError, match=r":4: webhooks\.1\.url: https://h.example/x is told already by"):
        endpoints(tmp_path, text)


def test_a_tag_is_name_and_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"webhooks\.0\.tag: 'team' is no tag: write it as name=value"):
        endpoints(tmp_path, '[[webhooks]]\nurl = "https://h.example/"\ntag = "team"')


# Secrets.

HOOK = '[[webhooks]]\nurl = "https://h.example/?token=t"'


def test_a_secret_comes_from_its_variable_or_its_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET.rstrip("="))
    for env in ({"TIERQ_WEBHOOK_SECRET": SECRET}, {"TIERQ_WEBHOOK_SECRET_FILE": str(tmp_path / "secret")}):
        (one,) = endpoints(tmp_path, HOOK, **env)
        assert (one.name, one.secret) == ("https://h.example/", KEY)
        assert "token" not in repr(one)
        assert "secret" not in repr(one)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "TIERQ_WEBHOOK_SECRET is not set"),
        ("hunter2", "holds no whsec_ and base64"),
        ("whsec_not base64!", "holds no whsec_ and base64"),
        ("whsec_" + base64.b64encode(b"k" * 23).decode(), "is 23 bytes long, not 24 to 64"),
        ("whsec_" + base64.b64encode(b"k" * 65).decode(), "is 65 bytes long, not 24 to 64"),
    ],
)
def test_a_secret_that_cannot_be_used_is_said_with_the_mend(secret: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^webhooks\.0\.secret_env: .*openssl rand") as caught:
        endpoints(tmp_path, HOOK, TIERQ_WEBHOOK_SECRET=secret)
    assert why in str(caught.value)
    assert not secret or secret not in str(caught.value)
