"""Which addresses webhooks may go to: whole HTTPS URLs, and only to public machines unless it is said otherwise."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_MEND = "write a public https:// URL, or, where the network is your own, set allow_private = true beside it"


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and leads to no other one inside it (RFC 4291, 3056, 6052).

    Raises:
        ValueError: it is no IP address.
    """
    ip = ipaddress.ip_address(address)
    embedded = _embedded(ip) if isinstance(ip, ipaddress.IPv6Address) else None
    if embedded is not None:
        return is_public(str(embedded))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a packet to this one ends at, by a mapping, a tunnel or a translator."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def shown_url(url: str) -> str:
    """A URL without what may be secret in it: user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def fault_of_webhook_url(url: str, *, allow_private: bool) -> str | None:
    """Why no webhook may go to a URL, with the mend; None where it may. Names are looked up when it is sent."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not url.isprintable() or " " in url:
        return "this is no http(s) URL: write it as https://host/path"
    if "@" in parts.netloc:
        return "a password has no place here: what is sent is signed, and that says who sends it"
    if parts.fragment:
        return "a fragment (#…) is never sent: leave it out"
    if allow_private:
        return None
    if parts.scheme == "http":
        return f"what is sent would cross the network unencrypted: {_MEND}"
    if _is_private_host(parts.hostname or ""):
        return f"{parts.hostname} is no public address: {_MEND}"
    return None


def _is_private_host(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
