"""Which addresses and URLs kiejobs refuses to dial or to hand on. Pure: no name is resolved here.

The standard library's `is_global` lets through a number of ranges that reach a machine's own network (6to4, site-local,
local NAT64, IPv4-compatible addresses, multicast), so they are listed by hand. A check of the text of a URL is a
courtesy to the caller and no guard: names can resolve to anything. The guard is `egress`, when it dials.
"""

import ipaddress
import socket
import unicodedata
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, unquote, urlsplit

# IANA's special-purpose registries and the clouds' own documents; each passes `is_global` in some supported Python.
_REFUSED = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("100.64.0.0/10", "shared address space of a provider"),
        ("192.0.0.0/24", "protocol assignments, and Oracle's metadata service"),
        ("168.63.129.16/32", "Azure's host service"),
        ("192.88.99.0/24", "6to4 relay"),
        ("::/96", "IPv4-compatible address"),
        ("64:ff9b:1::/48", "NAT64: leads to an IPv4 address"),
        ("2001:20::/28", "ORCHID: not routable"),
        ("2002::/16", "6to4: leads to an IPv4 address"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fec0::/10", "site-local"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""What DNS64 makes of public IPv4 addresses, in networks that have IPv6 alone: RFC 6052, 2.1."""
# In this order: the first that is true names the reason.
_KINDS = ("loopback", "unspecified", "multicast", "link_local", "reserved")
# Names that only mean something on this machine or in its network (RFC 6761, RFC 6762, ICANN's `internal`).
_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "ip6-localhost", "ip6-loopback")


def address_refused(address: str) -> str | None:
    """Say why this IP address must not be dialled, or None if it is an ordinary public one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "not an IP address"
    return _reason(parsed)


def url_refused(url: str, allow: frozenset[tuple[str, int]] = frozenset()) -> str | None:
    """Say why a URL that somebody gave us cannot be accepted, from its text alone, or None.

    `allow` holds exact (host, port) exceptions to the ban on local addresses, never to the rules about the URL's form.
    """
    split = parse_url(url)
    if isinstance(split, str):
        return split
    host = (split.hostname or "").lower()
    if (host, port_of(split)) in allow:
        return None
    plain = unicodedata.normalize("NFKC", unquote(host)).replace("。", ".").rstrip(".")
    if plain in _LOCAL_NAMES or plain.rpartition(".")[2] in _LOCAL_NAMES:
        return f"{host} is a name of this machine or its network"
    address = literal(plain)
    reason = _reason(address) if address else None
    return f"{host} is the address {address}: {reason}" if reason else None


def parse_url(url: str) -> SplitResult | str:
    """Split an absolute http(s) URL without a user name in it, or say what is wrong with its form."""
    if any(character <= " " or character in "\\\x7f" for character in url):
        return "the URL holds a space, a backslash or a control character"
    try:
        split = urlsplit(url)
        port_of(split)
    except ValueError:
        return "the URL cannot be read"
    if split.scheme.lower() not in ("http", "https"):
        return f"the scheme is {split.scheme[:20] or 'missing'!r}, only http and https are dialled"
    if "@" in split.netloc:
        return "the URL holds a user name or password"
    if not split.hostname:
        return "the URL names no host"
    return split


def port_of(split: SplitResult) -> int:
    """The port that the URL names, or its scheme's own; ValueError for one that is no port."""
    return split.port if split.port is not None else (443 if split.scheme == "https" else 80)


def how_to_allow(url: str) -> str:
    """Say what allows a URL that was refused for its host; empty for one whose form is wrong, which nothing allows."""
    split = parse_url(url)
    if isinstance(split, str):
        return ""
    host = f"[{split.hostname}]" if ":" in (split.hostname or "") else split.hostname
    return f"If this address is meant, add {host}:{port_of(split)} to KIEJOBS_EGRESS_ALLOW where kiejobs runs."


def shown(url: str) -> str:
    """A URL as messages may show it: no query, which may hold a signature, no user name, at most 120 characters."""
    try:
        split = urlsplit(url)
        port = f":{split.port}" if split.port else ""
    except ValueError:
        return "an unreadable URL"
    text = f"{split.scheme}://{split.hostname or ''}{port}{split.path}"
    return "".join(character if character.isprintable() else "?" for character in text[:120])


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Read a host as the C library does: also `127.1`, `2130706433`, `0x7f.1` and `017700000001` are addresses."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _reason(address: IPv4Address | IPv6Address) -> str | None:
    if isinstance(address, IPv6Address):
        address = _inner(address)
    for kind in _KINDS:
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    for network, why in _REFUSED:
        if address in network:
            return why
    return None if address.is_global else "private or not public"


def _inner(address: IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that a mapped one, or one of NAT64's well-known prefix, leads to; else the address itself."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def for_strangers(link: str | None) -> str | None:
    """Return a link that Kie and a customer's browser can follow; None for one that leads into a network of our own."""
    host = urlsplit(link).hostname if link else None
    reachable = link and link.startswith("https://") and "." in (host or "") and url_refused(link) is None
    return link if reachable else None
