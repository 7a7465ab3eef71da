"""The client, awaited and blocking; and the one that the service's first users know, over it."""

from trellis2_modal.client.awaiting import LOCAL_URL, AsyncClient
from trellis2_modal.client.trellis2api import TRELLIS2APIClient
from trellis2_modal.client.waiting import Client

__all__ = ["LOCAL_URL", "AsyncClient", "Client", "TRELLIS2APIClient"]
