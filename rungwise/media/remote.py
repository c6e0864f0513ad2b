"""Read http(s) files within an allow-list of hosts: by ranges, with each address checked before it is connected to.

Proxies of the environment are not used: the connection goes to the address that was checked.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import shutil
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from rungwise import __version__

URL_CHARACTERS = "/%?:@!$&'()*+,;=[]"
SCHEMES = {"http": 80, "https": 443}
MAX_REDIRECTS = 5
TIMEOUT_SECONDS = 10.0  # of a connection without a byte
REQUEST_SECONDS = 60.0  # of one request
CHUNK_BYTES = 4 * 2**20  # asked for at a time
PROGRESS_BYTES = 64 * 2**10  # that forgive earlier failures
COPY_BYTES = 64 * 2**10
RETRY_SECONDS = 0.5
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # holds an IPv4 address (RFC 6052)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unreachable(OSError, ValueError):
    """A server that can't be reached now, is too slow, or breaks off: another try may succeed."""


def is_url(text: str) -> bool:
    """Whether an input is an http(s) or s3 URL."""
    return bool(re.match(r"(https?|s3)://", text, re.IGNORECASE))


def is_private(address: Address) -> bool:
    """Whether an address is private, link-local, loopback, multicast, or holds an IPv4 address that is."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and is_private(inner):
            return True
    return not address.is_global or address.is_multicast


class Network:
    """What may be read from the network.

    Args:
        allowed: hosts, as HOST or HOST:PORT, that links and redirects may point to. Only these may have private or
            link-local addresses.
        tries: of a request that fails.
    """

    def __init__(self, allowed: Iterable[str] = (), tries: int = 4) -> None:
        self.allowed = frozenset(host.lower().rstrip(".") for host in allowed)
        self.tries = tries

    def check(self, url: str, origin: str = "") -> SplitResult:
        """Refuse a URL that must not be read; `origin` is the HOST:PORT that the user's own URL has.

        Raises:
            ValueError: it is refused.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{url}: not a URL ({error})") from error
        if parts.scheme not in SCHEMES or not host:
            raise ValueError(f"{url}: only http:// and https:// are read from the network")
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"{_shown(parts)}: credentials in a URL are refused")
        if host_port(url) != origin and not self._names(host, port or SCHEMES[parts.scheme]):
            raise ValueError(f"{url}: the host {host} is not allowed; name it: --allow-network {host}")
        return parts

    def _names(self, host: str, port: int) -> bool:
        host = host.lower().rstrip(".")
        return not self.allowed.isdisjoint((host, f"{host}:{port}", f"[{host}]:{port}"))

    def _addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of them public unless the host or the address is allowed by name."""
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"{host}: no such host ({getattr(error, 'strerror', None) or error})") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        for text in addresses:
            address = ipaddress.ip_address(text.partition("%")[0])
            if is_private(address) and not self._names(host, port) and not self._names(str(address), port):
                named = "is a private address" if host == text else f"has the private address {text}"
                raise ValueError(f"{host} {named}; refused unless named: --allow-network {host}")
        return addresses

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port or SCHEMES[parts.scheme]
        problem: OSError | None = None
        for address in self._addresses(host, port):
            try:
                sock = socket.create_connection((address, port), timeout=TIMEOUT_SECONDS)
                if parts.scheme == "http":
                    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
                else:
                    sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
                    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS)
            except OSError as error:
                problem = error
                continue
            connection.sock = sock
            return connection
        raise Unreachable(f"{host}: {problem}") from problem

    @contextmanager
    def _response(self, url: str, origin: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """The answer to a GET, after redirects, each of which is checked.

        Raises:
            ValueError: refused, or an error of the client.
            Unreachable: the connection or the server failed.
        """
        headers = {
            "User-Agent": f"rungwise/{__version__}",
            "Accept-Encoding": "identity",
            "Connection": "close",
        } | headers
        for _ in range(MAX_REDIRECTS + 1):
            parts = self.check(url, origin)
            target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=URL_CHARACTERS)
            connection = self._connection(parts)
            try:
                connection.request("GET", target, headers=headers)
                response = connection.getresponse()
                if response.status not in (301, 302, 303, 307, 308):
                    _check_status(response, url)
                    yield response
                    return
                location = urljoin(url, response.getheader("Location") or "")
            except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
                raise Unreachable(f"{_shown(parts)}: {error or type(error).__name__}") from error
            finally:
                connection.close()
            if parts.scheme == "https" and not location.startswith("https:"):
                raise ValueError(f"{url}: redirects from https to {location}; refused")
            url = location
        raise ValueError(f"{url}: more than {MAX_REDIRECTS} redirects")

    def read(self, url: str, origin: str, max_bytes: int, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`, or all.

        Raises:
            ValueError: refused, more than `max_bytes`, or fewer than `length`.
            Unreachable: the server fails at each try.
        """
        for number in range(self.tries):
            try:
                return self._read(url, origin, max_bytes, start, length)
            except Unreachable:
                if number + 1 == self.tries:
                    raise
            time.sleep(RETRY_SECONDS * 2**number)
        raise AssertionError

    def _read(self, url: str, origin: str, max_bytes: int, start: int, length: int | None) -> bytes:
        is_part = length is not None or start > 0
        headers = {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"} if is_part else {}
        data = bytearray()
        with self._response(url, origin, headers) as response:
            if is_part:
                _content_range(response, url, start)
            for part in _parts(response, url):
                data += part
                if len(data) > max_bytes:
                    raise ValueError(f"{url}: more than {max_bytes:,} bytes")
        if length is not None and len(data) != length:
            raise ValueError(f"{url}: {len(data):,} bytes in place of {length:,} from {start:,} on")
        return bytes(data)

    def fetch(self, url: str, destination: Path) -> Path:
        """Copy a file by ranges; it goes on where a connection broke off.

        Raises:
            ValueError: refused, no range reads, changed meanwhile, too large for the disk, or empty.
            Unreachable: the server fails again and again.
        """
        origin = host_port(url)
        size: int | None = None
        tag: str | None = None
        failures = last_failure_at = 0
        with destination.open("wb") as out:
            while size is None or out.tell() < size:
                at = out.tell()
                try:
                    with self._response(url, origin, {"Range": f"bytes={at}-{at + CHUNK_BYTES - 1}"}) as response:
                        stop, total = _content_range(response, url, at)
                        stated = response.getheader("ETag") or response.getheader("Last-Modified")
                        if size is not None and (total, stated) != (size, tag):
                            raise ValueError(f"{url}: changed while it was read")
                        if size is None and total > shutil.disk_usage(destination.parent).free:
                            raise ValueError(f"{url}: {total:,} bytes don't fit on the disk of {destination.parent}")
                        size, tag = total, stated
                        _copy(response, out, stop - at, url)
                except Unreachable:
                    failures = 1 if out.tell() - last_failure_at > PROGRESS_BYTES else failures + 1
                    last_failure_at = out.tell()
                    if failures >= self.tries:
                        raise
                    time.sleep(RETRY_SECONDS * 2 ** (failures - 1))
        return destination


def host_port(url: str) -> str:
    """HOST:PORT of a URL; "" if it has none."""
    parts = urlsplit(url)
    return f"{(parts.hostname or '').lower()}:{parts.port or SCHEMES.get(parts.scheme, 0)}" if parts.hostname else ""


def _shown(parts: SplitResult) -> str:
    """A URL without credentials and query."""
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


def _check_status(response: http.client.HTTPResponse, url: str) -> None:
    status = response.status
    if status in (408, 425, 429) or status >= 500:
        raise Unreachable(f"{url}: the server answers {status} {response.reason}")
    if status not in (200, 206):
        raise ValueError(f"{url}: the server answers {status} {response.reason}")
    if (response.getheader("Content-Encoding") or "identity") != "identity":
        raise ValueError(f"{url}: sent compressed ({response.getheader('Content-Encoding')})")


def _content_range(response: http.client.HTTPResponse, url: str, start: int) -> tuple[int, int]:
    """(end of the part that is sent, size of the file).

    Raises:
        ValueError: another part than asked for.
    """
    if response.status != 206:
        raise ValueError(f"{url}: the server does not send ranges; download the file first")
    stated = response.getheader("Content-Range") or ""
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", stated.strip())
    if match is None or int(match[1]) != start or not start <= int(match[2]) < int(match[3]):
        raise ValueError(f"{url}: the server sends the range {stated!r}, asked from {start}")
    return int(match[2]) + 1, int(match[3])


def _parts(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    """The body of an answer.

    Raises:
        Unreachable: it breaks off before its stated length, or takes too long.
    """
    # read1 returns what is there, so that the time of a slow body is checked.
    expected, count, deadline = response.length, 0, time.monotonic() + REQUEST_SECONDS
    while part := response.read1(COPY_BYTES if expected is None else min(COPY_BYTES, max(1, expected - count))):
        count += len(part)
        yield part
        if time.monotonic() > deadline:
            raise Unreachable(f"{url}: too slow")
    if expected is not None and count < expected:
        raise Unreachable(f"{url}: breaks off after {count:,} of {expected:,} bytes")


def _copy(response: http.client.HTTPResponse, out: BinaryIO, length: int, url: str) -> None:
    start = out.tell()
    for part in _parts(response, url):
        out.write(part[: start + length - out.tell()])
    if out.tell() < start + length:
        raise Unreachable(f"{url}: breaks off after {out.tell():,} bytes")
