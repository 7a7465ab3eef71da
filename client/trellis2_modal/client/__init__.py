"""The clients: async, blocking, and the API of the first version over the blocking one."""

from trellis2_modal.client.clients import LOCAL_URL, AsyncClient, Client
from trellis2_modal.client.legacy import TRELLIS2APIClient

__all__ = ["LOCAL_URL", "AsyncClient", "Client", "TRELLIS2APIClient"]
