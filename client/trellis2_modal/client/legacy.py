"""The API of the service's first version: `generate` a state, `extract_glb` from it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from trellis2_modal._submission import ImageSource, PathLike
from trellis2_modal.client.clients import Client

# `generate` is called for the state only, but each job exports a GLB as well: the smallest one is the fastest.
_SMALLEST_PRESET = "low_poly"


class TRELLIS2APIClient:
    """`generate` and `extract_glb` as blocking calls, over `Client`.

        client = TRELLIS2APIClient("https://3d.example.com")
        result = client.generate(image_path="mug.png", pipeline_type="1024_cascade", seed=42)
        client.extract_glb(state=result["state"], output_path="mug.glb", decimation_target=100_000, texture_size=2048)

    Missing arguments are read from TRELLIS2_API_URL, TRELLIS2_API_KEY, TRELLIS2_MODAL_KEY and TRELLIS2_MODAL_SECRET, or
    from `~/.trellis2_modal_secrets.json`. Errors are those of `trellis2_modal.errors`.
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
        """`timeout_s` limits each call, including cold start and queue. `options` are those of `Client`."""
        keys = {"base_url": base_url, "modal_key": modal_key, "modal_secret": modal_secret, "api_key": api_key}
        self._client = Client.from_environment(environment, **keys, **options)
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def generate(
        self,
        image_path: ImageSource,
        pipeline_type: str = "1024_cascade",
        seed: int | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Sample the shape of an image; `result["state"]` is the input of `extract_glb`.

        The state is a short string, the job's id: the arrays stay with the service, and any machine can extract from
        them for as long as the job is kept. The result also has `seed` (the one used, also if none was given),
        `timings` (seconds by stage), `gpu_seconds` and `cost_usd`.

        Raises:
            InputRejected: the image or a parameter is rejected; `errors` names it.
            JobFailed, JobExpired, JobCanceled: the job ended without a shape; `code` is the reason.
            WaitTimedOut: the job has not ended after `timeout_s`.
        """
        fields: dict[str, Any] = {"preset": _SMALLEST_PRESET, "pipeline_type": pipeline_type, **parameters}
        if seed is not None:
            fields["seed"] = seed
        handle = self._client.submit(image_path, **fields)
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
        """Extract a GLB from a state without sampling again, save it, and return its path.

        state: `result["state"]` of `generate`. parameters: other parameters of an export (`texture_format`,
        `max_bytes`, `dimensions_m`, ...).

        Raises:
            NotFound: there is no such state, or it is no longer kept.
            InputRejected, JobFailed, JobExpired, JobCanceled, WaitTimedOut, IntegrityError: see the error tree.
        """
        fields = {"preset": "max_quality", "decimation_target": decimation_target, "texture_size": texture_size}
        handle = self._client.export(state, **{**fields, "remesh": remesh, **parameters})
        handle.wait(self._timeout_s)
        return handle.download("model", output_path)
