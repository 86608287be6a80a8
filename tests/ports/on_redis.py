"""`python -m tests.ports.on_redis CMD ...`: run a command beside a redis-server of its own.

The server is the newest one that was found, empty, on a free port of the loopback, which
`DISTKIT_URL` names; it ends with the command, whose exit status is this one's.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.harness.servers import RedisServer, find_binaries


def main(command: list[str]) -> int:
    if not command:
        sys.exit("usage: python -m tests.ports.on_redis CMD ...")
    found = find_binaries()
    if not found.binaries:
        sys.exit(f"no redis-server was found ({'; '.join(found.left_out)})")
    server = RedisServer(found.binaries[-1], tcp=True)
    try:
        url = f"redis://127.0.0.1:{server.port}"
        return subprocess.run(command, env=os.environ | {"DISTKIT_URL": url}).returncode
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
