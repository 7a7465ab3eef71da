"""The client that the service's first users know: `generate` a state, `extract_glb` from it."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trellis2_modal._batch_request import PathLike
from trellis2_modal._image import PictureSource
from trellis2_modal.client.sync_client import Client

# `generate` is asked for a state alone; a job makes a GLB in any case, so a small one.
_SMALLEST = "low_poly"


class TRELLIS2APIClient:
    """`generate` and `extract_glb` as blocking calls, over `Client`.

        client = TRELLIS2APIClient("https://3d.example.com")
        result = client.generate(image_path="mug.png", pipeline_type="1024_cascade", seed=42)
        client.extract_glb(state=result["state"], output_path="mug.glb", decimation_target=100_000, texture_size=2048)

    What is not given is found in TRELLIS2_API_URL, TRELLIS2_API_KEY, TRELLIS2_MODAL_KEY and TRELLIS2_MODAL_SECRET, or
    in `~/.trellis2_modal_secrets.json`. Errors are those of `trellis2_modal.errors`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        modal_key: str | None = None,
        modal_secret: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float | None = None,
        environment: Mapping[str, str] = os.environ,
        **options: Any,
    ) -> None:
        """`timeout_s` bounds each call; a cold start and a queue are part of it. `options` are those of `Client`."""
        given = {"base_url": base_url, "modal_key": modal_key, "modal_secret": modal_secret, "api_key": api_key}
        self._client = Client.from_environment(environment, **given, **options)
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def generate(
        self,
        image_path: PictureSource,
        pipeline_type: str = "1024_cascade",
        seed: int | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Sample the shape of a picture; `result["state"]` is what `extract_glb` takes.

        The state is a short text, the job's id: the arrays stay with the service, where it can be extracted again from
        any machine for as long as the job is kept. Beside it: `seed` (the one that was used, also where none was
        given), `timings` (seconds by stage), `gpu_seconds` and `cost_usd`.

        Raises:
            InputRejected: the picture or a parameter is refused; `errors` says which.
            JobFailed, JobExpired, JobCanceled: there is no shape; `code` says why.
            WaitTimedOut: it goes on after `timeout_s`.
        """
        chosen: dict[str, Any] = {"preset": _SMALLEST, "pipeline_type": pipeline_type, **parameters}
        if seed is not None:
            chosen["seed"] = seed
        handle = self._client.submit(image_path, **chosen)
        job = handle.wait(self._timeout_s)
        return {
            "state": job.id,
            "seed": job.seed,
            "timings": dict(job.timings),
            "gpu_seconds": job.gpu_seconds,
            "cost_usd": job.cost_usd,
        }

    def extract_glb(
        self,
        state: str,
        output_path: PathLike,
        decimation_target: int = 1_000_000,
        texture_size: int = 4096,
        remesh: bool = True,
        **parameters: Any,
    ) -> Path:
        """Extract a GLB from a state and save it, without sampling again; the path it was saved under.

        state: `result["state"]` of `generate`. `parameters` are the other ones of an export (`texture_format`,
        `max_bytes`, `dimensions_m`, ...).

        Raises:
            NotFound: there is no such state, or none any more.
            InputRejected, JobFailed, JobExpired, JobCanceled, WaitTimedOut, IntegrityError: see the error tree.
        """
        options: dict[str, Any] = {
            "decimation_target": decimation_target,
            "texture_size": texture_size,
            "remesh": remesh,
            **parameters,
        }
        handle = self._client.export(state, **{"preset": "max_quality", **options})
        handle.wait(self._timeout_s)
        return handle.download("model", output_path)
