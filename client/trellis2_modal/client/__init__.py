"""The client, awaited and blocking."""

from trellis2_modal.client.awaiting import LOCAL_URL, AsyncClient
from trellis2_modal.client.waiting import Client

__all__ = ["LOCAL_URL", "AsyncClient", "Client"]
