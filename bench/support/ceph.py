"""Ceph's S3 gateway on loopback, over HTTP and TLS: one monitor, one disk in memory, one gateway, no root needed."""

import os
import platform
import shutil
import socket
import ssl
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import pytest
import trustme

from infra.settings.service import S3Options

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
ACCESS_KEY, SECRET_KEY = "ACCESSKEY", "SECRETKEY"
START_S = 60.0

# Everything that needs the gateway runs in one worker of a parallel run, so that it starts once.
on_ceph = pytest.mark.xdist_group("ceph")

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
log file = {folder}/$name.log
run dir = {folder}
admin socket = {folder}/$name.asok
mon data = {folder}/mon
mon allow pool size one = true
mon data avail crit = 1
mon max pg per osd = 1000
osd data = {folder}/osd
osd objectstore = memstore
osd class dir = /usr/lib/{machine}-linux-gnu/rados-classes
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{http_port} ssl_endpoint=127.0.0.1:{tls_port} ssl_certificate={folder}/tls.pem tcp_nodelay=1
"""  # noqa: E501 - a line of its configuration cannot be broken


@dataclass(frozen=True)
class Ceph:
    """A running gateway. `ca` vouches for its TLS endpoint."""

    http_url: str
    tls_url: str
    ca: Path

    def options(self, bucket: str, *, tls: bool = False) -> S3Options:
        """How to reach one of its buckets."""
        return S3Options(
            bucket=bucket,
            endpoint_url=self.tls_url if tls else self.http_url,
            region="us-east-1",
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            addressing="path",
            ca_bundle=self.ca if tls else None,
        )


def missing_programs() -> list[str]:
    """What `tests/install-peers` would have to install."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextmanager
def run_ceph(folder: Path) -> Iterator[Ceph]:
    """Start everything in an empty folder; end it at the end."""
    ports = _free_ports(3)
    _configure(folder, *ports)
    with ExitStack() as daemons:
        start = _starter(folder, daemons)
        map_and_keys = ("--monmap", folder / "monmap", "--keyring", folder / "keyring")
        _run(folder, "ceph-mon", "-i", "a", "--mkfs", *map_and_keys)
        start("ceph-mon", "-i", "a")
        disk = str(uuid.uuid4())
        _run(folder, "ceph", "osd", "new", disk)
        _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        start("ceph-osd", "-i", "0")
        start("radosgw", "-n", "client.rgw")
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        _run(folder, "radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)
        ceph = Ceph(f"http://127.0.0.1:{ports[1]}", f"https://localhost:{ports[2]}", folder / "ca.pem")
        _await(ceph)
        yield ceph


def _configure(folder: Path, mon_port: int, http_port: int, tls_port: int) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "tls.pem")
    for part in ("mon", "osd", "rgw"):
        (folder / part).mkdir()
    fsid = str(uuid.uuid4())
    (folder / "ceph.conf").write_text(
        _CONFIGURATION.format(
            fsid=fsid,
            folder=folder,
            machine=platform.machine(),
            mon_port=mon_port,
            http_port=http_port,
            tls_port=tls_port,
        )
    )
    address = f"[v2:127.0.0.1:{mon_port}/0]"
    _run(folder, "monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, folder / "monmap")
    keyring = ("ceph-authtool", folder / "keyring", "--gen-key")
    _run(folder, *keyring, "--create-keyring", "-n", "mon.", "--cap", "mon", "allow *")
    _run(folder, *keyring, "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *")
    _run(folder, *keyring, "-n", "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
    _run(folder, *keyring, "-n", "client.rgw", "--cap", "mon", "allow rw", "--cap", "osd", "allow rwx")


def _run(folder: Path, program: str, *arguments: str | Path) -> None:
    environment = os.environ | {"CEPH_CONF": str(folder / "ceph.conf")}
    command = [program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=START_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")


def _starter(folder: Path, daemons: ExitStack) -> Callable[..., None]:
    def start(program: str, *arguments: str) -> None:
        command = [*_kill_with_parent(), program, "--conf", str(folder / "ceph.conf"), "-f", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        daemons.callback(_end, process)

    return start


def _kill_with_parent() -> list[str]:
    """What makes a process end with a parent that is killed; nothing where there is no such thing."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill without a clean shutdown: its data is not kept."""
    process.kill()
    process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def _await(ceph: Ceph) -> None:
    transport = httpx.HTTPTransport(retries=10)
    with httpx.Client(transport=transport) as client:
        client.get(ceph.http_url, timeout=START_S)
    httpx.get(ceph.tls_url, verify=ssl.create_default_context(cafile=ceph.ca), timeout=START_S)


def make_bucket(ceph: Ceph, bucket: str) -> None:
    """Make a bucket, if it is not there."""
    options = ceph.options(bucket)
    client = boto3.client(
        "s3",
        endpoint_url=options.endpoint_url,
        region_name=options.region,
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
    )
    client.create_bucket(Bucket=bucket)
