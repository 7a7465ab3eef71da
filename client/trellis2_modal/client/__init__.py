"""The client, awaited and blocking; and the one that the service's first users know, over it."""

from trellis2_modal.client.async_client import LOCAL_URL, AsyncClient
from trellis2_modal.client.legacy import TRELLIS2APIClient
from trellis2_modal.client.sync_client import Client

__all__ = ["LOCAL_URL", "AsyncClient", "Client", "TRELLIS2APIClient"]
