"""The engine: sample states, decode surfaces, and translate the GPU's errors."""

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
from worker.engines.trellis.decoding import decode_surface
from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.pipeline import COARSE, Sampling
from worker.engines.trellis.pipeline_models import PipelineModels, load_models
from worker.engines.trellis.preprocessing import Conditioning, isolate_object
from worker.engines.trellis.sampling.cuda_graphs import StructureGraph
from worker.engines.trellis.sampling.latents import ENGINE, Latents
from worker.engines.trellis.sampling.sampler import ConditionedFlow

IMAGE_SIDES_PX = (COARSE, 1024)
GPU_NAMES = ("CUDA", "cuDNN", "CUBLAS")  # PyTorch's and Triton's messages about a GPU failure contain one of these
SAMPLING, DECODING = -1, 0  # priorities of their streams; lower numbers run first
WARM_UP_SIDES = (16, 24)  # of cubes of tokens: the structure's number, and that of a typical shape at 1024^3


@dataclass(slots=True)
class Trellis:
    """TRELLIS.2 on one device. One job samples at a time; another one may decode at the same time."""

    models: PipelineModels
    name: str = ENGINE
    _sampling: threading.Lock = field(default_factory=threading.Lock)
    _decoding: threading.Lock = field(default_factory=threading.Lock)
    _streams: dict[int, torch.cuda.Stream] = field(default_factory=dict)  # by priority

    @classmethod
    def load(cls, root: Path, device: str = "cuda") -> "Trellis":
        """Load the weights below `root` (see `load_models`) and, on a GPU, warm up.

        Raises:
            OSError, ValueError, KeyError: see `load_models`.
        """
        with torch.inference_mode():
            engine = cls(load_models(root, torch.device(device)))
        if engine.models.device.type == "cuda":
            engine.warm_up()
        return engine

    def warm_up(self) -> None:
        """Run every network once, so that libraries load their kernels, and capture the structure's CUDA graphs."""
        models = self.models
        with self._on_gpu(SAMPLING):
            blank = Conditioning(np.zeros((COARSE, COARSE, 3), np.uint8), models.extract_features)
            features = {side_px: blank.at(side_px) for side_px in IMAGE_SIDES_PX}
            for (_, side_px), model in (((None, COARSE), models.structure_flow), *models.flows.items()):
                _run_once(model, features[side_px])
            self._capture_structure(features[COARSE])
        with self._on_gpu(DECODING):
            latents = torch.zeros(8, models.shape_decoder.latent_channels, device=models.device)
            cells = torch.cartesian_prod(*[torch.arange(2, device=models.device, dtype=torch.int32)] * 3)
            _, levels = models.shape_decoder.decode(latents, cells, lambda _: None)
            models.texture_decoder.decode_on_levels(latents, levels, lambda _: None)

    def _capture_structure(self, image_features: Tensor) -> None:
        models, structure = self.models, self.models.structure_flow
        side, grid = structure.resolution, structure.grid()
        models.structure_decoder.logits(torch.zeros(1, structure.in_channels, side, side, side, device=models.device))
        models.graph_pool = torch.cuda.graph_pool_handle()
        models.structure_graph = StructureGraph(
            structure, structure.phases(grid), structure.contexts(image_features), models.graph_pool
        )

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """Run the three stages; the same image, parameters, seed and GPU give the same state.

        The state's notes record what was used: `seed` (the next ones are tried while the structure is empty),
        `resolution` (the token limit may lower it) and `pipeline_type`.

        Raises:
            NoObjectFound: nothing in the image stands out from its background.
            EmptySurface, OutputInvalid: the result of sampling is unusable.
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
            EmptySurface, OutputInvalid: the decoded surface is unusable.
            GpuOutOfMemory, WorkerUnfit: see `sample`.
        """
        with self._decoding, self._on_gpu(DECODING):
            return decode_surface(self.models, Latents.from_state(state, self.models.device), progress)

    @contextmanager
    def _on_gpu(self, priority: int) -> Iterator[None]:
        """Run the block on the stream of this priority, and translate the GPU's errors."""
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
            traceback.clear_frames(error.__traceback__)  # they hold the tensors that filled the memory
            torch.cuda.empty_cache()
            raise GpuOutOfMemory("the job needs more memory than the GPU has: ask for a lower pipeline_type") from error
        except RuntimeError as error:
            if any(name in str(error) for name in GPU_NAMES):
                raise WorkerUnfit("the GPU failed; nothing that this process computes can be trusted") from error
            raise


def _run_once(model: FlowTransformer, image_features: Tensor) -> None:
    """Run both kinds of step, on few tokens and on many: the libraries use different kernels for them."""
    for side in WARM_UP_SIDES:
        cells = torch.cartesian_prod(*[torch.arange(side, device=image_features.device)] * 3)
        flow = ConditionedFlow(model, model.phases(cells), model.contexts(image_features))
        noise = torch.zeros(len(cells), model.in_channels, device=image_features.device)
        for guided in (True, False):
            flow(noise, model.modulation(1.0), guided=guided)
