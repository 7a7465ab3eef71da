"""The service's own page on this machine: `python -m trellis2_modal.client.app`, then http://localhost:7860.

A browser cannot send Modal's proxy tokens, and need not know an API key. So a small server on loopback forwards the
browser's requests to the service, with the credentials of the environment or of `~/.trellis2_modal_secrets.json`.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from trellis2_modal.client.clients import LOCAL_URL
from trellis2_modal.client.credentials import credentials
from trellis2_modal.client.local_proxy import LocalProxy
from trellis2_modal.errors import TrellisError

PORT = 7860


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Serve until Ctrl-C; return 2 if the service's URL, the secrets file or the port is unusable."""
    parser = argparse.ArgumentParser(prog="python -m trellis2_modal.client.app", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"port on this machine ({PORT})")
    arguments = parser.parse_args(argv)
    try:
        options = credentials(environment)
        keys = [options.get(name) for name in ("api_key", "modal_key", "modal_secret")]
        proxy = LocalProxy(options.get("base_url", LOCAL_URL), *keys, port=arguments.port)
    except (TrellisError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"open {proxy.url} (Ctrl-C stops it)", flush=True)
    with proxy, suppress(KeyboardInterrupt):
        proxy.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
