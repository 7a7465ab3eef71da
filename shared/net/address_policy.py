"""Decide which URLs and IP addresses are public, by our own table, so that no Python version changes the answer.

Sources: IANA's IPv4 and IPv6 special-purpose address registries, RFC 6052 (NAT64), RFC 6598 (carrier-grade NAT),
RFC 9637 (documentation), and the providers' manuals for their metadata services.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

MAX_URL_CHARACTERS = 2_048

# The whole URL: no credentials, no backslash, no space, no control character, no port but 443.
_URL = re.compile(
    r"https://(\[[0-9A-Fa-f:.]+\]|[^\s\x00-\x20\x7f/?#@:\[\]\\]+)(:443)?([/?#][^\s\x00-\x20\x7f\\]*)?", re.IGNORECASE
)
# Two labels at least, and a last one that no resolver reads as a number (0x7f, 0177, 2130706433).
_NAME = re.compile(r"(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MAX_NAME_CHARACTERS = 253

_PRIVATE_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # unspecified, this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform services, inside an otherwise public block
        "169.254.0.0/16",  # link-local; metadata of AWS, Google and Azure at 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]

# Only 2000::/3 is assigned to the public internet: loopback, mapped, compatible, local-use NAT64, unique-local,
# link-local, site-local and multicast addresses are all outside of it.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_PRIVATE_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: wraps any IPv4 address
        "3fff::/20",  # documentation
    )
]

# A resolver behind NAT64 wraps every IPv4 answer in this prefix; its last four bytes are the real address.
_NAT64 = IPv6Network("64:ff9b::/96")


def public_url(text: str) -> httpx.URL | None:
    """Parse a URL that is allowed; None for any other. The name is not resolved.

    Allowed are https, port 443, no credentials, and as host a DNS name (international names are returned in their
    `xn--` form) or a plain IP address.
    """
    if len(text) > MAX_URL_CHARACTERS or not _URL.fullmatch(text):
        return None
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return None
    host = url.raw_host.decode()
    is_name = len(host) <= _MAX_NAME_CHARACTERS and _NAME.fullmatch(host)
    return url if is_name or is_literal(host) else None


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL that was checked before."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0]}".lower()


def is_literal(host: str) -> bool:
    """Return whether a host is an IP address in its plain spelling rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_public(text: str) -> bool:
    """Return whether a text is a public IP address in its plain spelling; names and scoped addresses are not.

    IPv4 is four decimal numbers without leading zeros.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return _is_public_v4(address) if isinstance(address, IPv4Address) else _is_public_v6(address)


def _is_public_v4(address: IPv4Address) -> bool:
    return not any(address in network for network in _PRIVATE_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return _is_public_v4(IPv4Address(address.packed[-4:]))
    return address in _GLOBAL_UNICAST and not any(address in network for network in _PRIVATE_V6)
