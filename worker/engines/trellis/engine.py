"""The engine: pictures and parameters in, states and surfaces out; everything that may go wrong is given a name."""

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.domain.parameters import Parameters
from shared.errors import GpuOutOfMemory, WorkerUnfit
from worker.engine import InputImage, Progress, State, Surface
from worker.engines.trellis.conditioning import Conditioning, isolate_object
from worker.engines.trellis.decoding.decode import decode_surface
from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.models.model_set import PipelineModels, load_models
from worker.engines.trellis.pipeline import COARSE, Sampling
from worker.engines.trellis.sampling.cuda_graphs import StructureGraph
from worker.engines.trellis.sampling.latents import ENGINE, Latents
from worker.engines.trellis.sampling.sampler import ConditionedFlow

PICTURE_SIDES_PX = (COARSE, 1024)
GPU_NAMES = ("CUDA", "cuDNN", "CUBLAS")  # one of them is in whatever PyTorch and Triton say of a GPU that failed
SAMPLING, DECODING = -1, 0  # priorities of their streams; smaller ones come first
WARM_UP_SIDES = (16, 24)  # of cubes of tokens: as many as the structure has, and as a shape of 1024^3 has


@dataclass(slots=True)
class Trellis:
    """TRELLIS.2 on one device. One job samples at a time; another's surface may be decoded beside it."""

    models: PipelineModels
    name: str = ENGINE
    _sampling: threading.Lock = field(default_factory=threading.Lock)
    _decoding: threading.Lock = field(default_factory=threading.Lock)
    _streams: dict[int, torch.cuda.Stream] = field(default_factory=dict)  # by priority

    @classmethod
    def load(cls, root: Path, device: str = "cuda") -> "Trellis":
        """Read the weights below `root` (see `load_models`) and, on a GPU, fill every cache that jobs would fill.

        Raises:
            OSError, ValueError, KeyError: see `load_models`.
        """
        with torch.inference_mode():
            engine = cls(load_models(root, torch.device(device)))
        if engine.models.device.type == "cuda":
            engine.warm_up()
        return engine

    def warm_up(self) -> None:
        """Run everything once, so that every library has loaded what it needs, and record what is recorded."""
        models = self.models
        with self._on_gpu(SAMPLING):
            blank = Conditioning(np.zeros((COARSE, COARSE, 3), np.uint8), models.extract_features)
            pictures = {side_px: blank.at(side_px) for side_px in PICTURE_SIDES_PX}
            for (_, side_px), model in (((None, COARSE), models.structure_flow), *models.flows.items()):
                _run_once(model, pictures[side_px])
            self._record(pictures[COARSE])
        with self._on_gpu(DECODING):
            latents = torch.zeros(8, models.shape_decoder.latent_channels, device=models.device)
            cells = torch.cartesian_prod(*[torch.arange(2, device=models.device, dtype=torch.int32)] * 3)
            _, ladder = models.shape_decoder.decode(latents, cells, lambda _: None)
            models.texture_decoder.decode_on_levels(latents, ladder, lambda _: None)

    def _record(self, picture: Tensor) -> None:
        models, structure = self.models, self.models.structure_flow
        side, grid = structure.resolution, structure.grid()
        models.structure_decoder.logits(torch.zeros(1, structure.in_channels, side, side, side, device=models.device))
        models.graph_pool = torch.cuda.graph_pool_handle()
        models.structure_graph = StructureGraph(
            structure, structure.phases(grid), structure.contexts(picture), models.graph_pool
        )

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """Run the three stages; the same picture, parameters, seed and GPU give the same state.

        The state's notes say what became of the wishes: `seed` (the next ones are tried while the structure is empty),
        `resolution` (the token limit may lower it) and `pipeline_type`.

        Raises:
            NoObjectFound: nothing in the picture stands out from its background.
            EmptySurface, OutputInvalid: sampling gave nothing that an asset can be made of.
            GpuOutOfMemory: the job needs more than this GPU has.
            WorkerUnfit: the GPU failed; the process must be replaced.
        """
        with self._sampling, self._on_gpu(SAMPLING):
            rgb = isolate_object(image, parameters.background, self.models.remove_background)
            progress.show_preview(rgb)
            conditioning = Conditioning(rgb, self.models.extract_features)
            sampling = Sampling(self.models, conditioning, parameters, progress)
            return sampling.run(seed).to_state()

    def decode(self, state: State, progress: Progress) -> Surface:
        """Decode a state.

        Raises:
            StateMissing: the state is not one of this engine's.
            EmptySurface, OutputInvalid: what it decodes to is no object.
            GpuOutOfMemory, WorkerUnfit: see `sample`.
        """
        with self._decoding, self._on_gpu(DECODING):
            return decode_surface(self.models, Latents.from_state(state, self.models.device), progress)

    @contextmanager
    def _on_gpu(self, priority: int) -> Iterator[None]:
        """A stream for the work of this priority, and names for what the GPU may raise."""
        try:
            with torch.inference_mode():
                if self.models.device.type != "cuda":
                    yield
                    return
                if priority not in self._streams:
                    self._streams[priority] = torch.cuda.Stream(self.models.device, priority=priority)
                stream = self._streams[priority]
                with torch.cuda.stream(stream):
                    yield
                stream.synchronize()
        except torch.OutOfMemoryError as error:
            traceback.clear_frames(error.__traceback__)  # they hold what there was no room beside
            torch.cuda.empty_cache()
            raise GpuOutOfMemory("the job needs more memory than the GPU has: ask for a lower pipeline_type") from error
        except RuntimeError as error:
            if any(name in str(error) for name in GPU_NAMES):
                raise WorkerUnfit("the GPU failed; nothing that this process computes can be trusted") from error
            raise


def _run_once(model: FlowTransformer, picture: Tensor) -> None:
    """Both kinds of step, on few tokens and on many: the libraries use other kernels for them."""
    for side in WARM_UP_SIDES:
        cells = torch.cartesian_prod(*[torch.arange(side, device=picture.device)] * 3)
        flow = ConditionedFlow(model, model.phases(cells), model.contexts(picture))
        noise = torch.zeros(len(cells), model.in_channels, device=picture.device)
        for guided in (True, False):
            flow(noise, model.modulation(1.0), guided=guided)
