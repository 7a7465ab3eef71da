"""Pictures are looked at wherever they are, and a silent host is not waited for again and again."""

from collections.abc import Callable

import httpcore
import pytest

from infra.queues.memory import MemoryStore
from shared.errors import UrlUnreachable
from shared.net.egress import Egress
from worker.batches.image_probe import SILENT_AFTER, ImageProbe


def looker(dial: Callable[..., httpcore.NetworkStream]) -> ImageProbe:
    """Looks through an egress that dials so."""
    egress = Egress(resolve=lambda _host, _timeout_s: ("93.184.215.14",), dial=dial)
    return ImageProbe(MemoryStore(), egress, "shop")


def test_a_host_that_never_answers_is_given_up() -> None:
    """The rows of a large catalog must not wait for it one after the other; other hosts are looked at all the same."""
    dialled: list[str] = []

    def dial(address: str, port: int, timeout_s: float) -> httpcore.NetworkStream:  # noqa: ARG001 - a Dial
        dialled.append(address)
        raise httpcore.ConnectTimeout("silence")

    with looker(dial) as looking:
        for number in range(SILENT_AFTER + 10):
            with pytest.raises(UrlUnreachable, match="no picture could be fetched"):
                looking.url(f"https://gone.example.com/{number}.png")
        assert len(dialled) == SILENT_AFTER
        with pytest.raises(UrlUnreachable):
            looking.url("https://other.example.com/1.png")
        assert len(dialled) == SILENT_AFTER + 1
