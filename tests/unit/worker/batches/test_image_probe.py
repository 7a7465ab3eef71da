"""Images are probed wherever they are, and a silent host is given up after some probes."""

from collections.abc import Callable

import httpcore
import pytest

from bench.support.memory_store import MemoryStore
from shared.errors import UrlUnreachable
from shared.net.egress import Egress
from worker.batches.image_probe import MAX_SILENT_PROBES, ImageProbe


def probe_with(dial: Callable[..., httpcore.NetworkStream]) -> ImageProbe:
    """Make a probe whose egress dials with this function."""
    egress = Egress(resolve=lambda _host, _timeout_s: ("93.184.215.14",), dial=dial)
    return ImageProbe(MemoryStore(), egress, "shop")


def test_a_host_that_never_answers_is_given_up() -> None:
    """The rows of a large catalog must not wait for it one after the other; other hosts are still probed."""
    dialled: list[str] = []

    def dial(address: str, port: int, timeout_s: float) -> httpcore.NetworkStream:  # noqa: ARG001 - a Dial
        dialled.append(address)
        raise httpcore.ConnectTimeout("silence")

    with probe_with(dial) as probe:
        for number in range(MAX_SILENT_PROBES + 10):
            with pytest.raises(UrlUnreachable, match="no image could be fetched"):
                probe.url(f"https://gone.example.com/{number}.png")
        assert len(dialled) == MAX_SILENT_PROBES
        with pytest.raises(UrlUnreachable):
            probe.url("https://other.example.com/1.png")
        assert len(dialled) == MAX_SILENT_PROBES + 1
