"""An SFTP server for tests: python -m tests.assets.sftp_process HOME SERVED PORT."""

import asyncio
import os
import sys
from pathlib import Path

import asyncssh


async def _serve(home: Path, served: str, port: int) -> None:
    await asyncssh.listen(
        "127.0.0.1",
        port,
        server_host_keys=[str(home / "host_key")],
        authorized_client_keys=str(home / "authorized_keys"),
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(served)),
        allow_scp=False,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
