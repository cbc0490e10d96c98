"""Servers on 127.0.0.1 that stand in for a shared place, SFTP and S3, in this process and without an account."""

import asyncio
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FAKE_KEYS = {  # of the S3 server, which asks for any
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class SshServer:
    """A running SFTP server and the key that opens it."""

    port: int
    key: Path


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """An SFTP server with the files of `folder`/files as its root."""
    import asyncssh

    (folder / "files").mkdir(parents=True)
    host, user = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    user.write_private_key(str(folder / "key"))
    user.write_public_key(str(folder / "known"))
    loop = asyncio.new_event_loop()

    async def listen() -> int:
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host],
            authorized_client_keys=str(folder / "known"),
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(folder / "files").encode()),
        )
        return server.get_port()

    port = loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield SshServer(port, folder / "key")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """An S3 server in memory with one bucket; its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT")).read()
        yield address
    finally:
        server.stop()
