"""The clients: async, blocking, and the API of the first version over the blocking one."""

from trellis2_modal.client.async_client import LOCAL_URL, AsyncClient
from trellis2_modal.client.legacy import TRELLIS2APIClient
from trellis2_modal.client.sync_client import Client

__all__ = ["LOCAL_URL", "AsyncClient", "Client", "TRELLIS2APIClient"]
