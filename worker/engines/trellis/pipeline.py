"""The three stages of sampling: sparse structure, shape (in one pass, or coarse and fine), texture."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from shared.domain.job import Stage
from shared.domain.parameters import Parameters, PipelineType
from shared.errors import EmptySurface
from worker.engine import Progress
from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.pipeline_models import PipelineModels
from worker.engines.trellis.preprocessing import Conditioning
from worker.engines.trellis.sampling.cuda_graphs import GraphReplay
from worker.engines.trellis.sampling.latents import Latents, check_finite, is_solid
from worker.engines.trellis.sampling.sampler import ConditionedFlow, Guidance, OnStep, Velocity, sample, steps

SEEDS = 4  # seeds to try before a structure counts as empty
CELLS_PER_TOKEN = 16  # voxels along the side of a token's cell
COARSE = 512  # the resolution of a cascade's first pass
FLOOR, LOWER_BY = 1024, 128  # lowest resolution of a cascade under the token limit, and the steps down to it
COARSE_SHARE = 0.2  # of the shape stage's time for a cascade's first pass, about


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a pipeline type.

    side: of the structure's grid. model: the resolution that the shape and texture transformers were trained for, which
    is also the size of their image, in pixels. resolution: of the final shape, before the token limit.
    """

    side: int
    model: int
    resolution: int
    cascade: bool = False


PLANS: dict[PipelineType, Plan] = {
    "512": Plan(32, 512, 512),
    "1024": Plan(64, 1024, 1024),
    "1024_cascade": Plan(32, 1024, 1024, cascade=True),
    "1536_cascade": Plan(32, 1024, 1536, cascade=True),
}


@dataclass(slots=True)
class Sampling:
    """The sampling of one job."""

    models: PipelineModels
    conditioning: Conditioning
    parameters: Parameters
    progress: Progress
    _image_features: dict[int, Tensor] = field(default_factory=dict)

    def run(self, seed: int) -> Latents:
        """Sample all stages.

        Raises:
            EmptySurface: no cell is occupied with any of four seeds, or a cascade's first pass has no voxel.
            OutputInvalid: the result of a stage is not finite.
        """
        plan = PLANS[self.parameters.pipeline_type]
        seed, noises, coords = self._structure(seed, plan)
        resolution = plan.resolution
        if plan.cascade:
            coarse = self._shape(coords, COARSE, noises, self._report_steps(Stage.SHAPE, 0, COARSE_SHARE))
            fine = self.models.shape_decoder.finest_cells(coarse, coords)
            if len(fine) == 0:
                raise EmptySurface("the shape's first pass has no voxel left")
            coords, resolution = quantize(fine, plan.resolution, self.parameters.max_num_tokens)
        shape = self._shape(
            coords, plan.model, noises, self._report_steps(Stage.SHAPE, COARSE_SHARE if plan.cascade else 0, 1)
        )
        texture = self._texture(coords, shape, plan.model, noises)
        self.progress(Stage.TEXTURE, 1)
        return Latents(coords, shape, texture, resolution, seed, self.parameters.pipeline_type)

    def _structure(self, seed: int, plan: Plan) -> tuple[int, torch.Generator, Tensor]:
        """Sample the structure: the seed that succeeded, its generator, and the occupied cells.

        A flat structure is used only if no seed gives a solid one: some objects are flat.
        """
        flat = None
        for candidate in range(seed, seed + SEEDS):
            noises = torch.Generator().manual_seed(candidate)
            coords = self.models.structure_decoder.occupied(self._structure_latents(noises), plan.side)
            if is_solid(coords):
                return candidate, noises, coords
            if flat is None and len(coords):
                flat = candidate, noises, coords
        if flat is None:
            raise EmptySurface(f"no seed from {seed} to {seed + SEEDS - 1} gives this image any structure")
        return flat

    def _structure_latents(self, noises: torch.Generator) -> Tensor:
        models, parameters = self.models, self.parameters
        model, side = models.structure_flow, models.structure_flow.resolution
        noise = self._noise(noises, model.in_channels, side, side, side)
        settings = models.samplers["sparse_structure"]
        guidance = Guidance(parameters.ss_guidance_strength, parameters.ss_guidance_rescale, settings.sigma_min)
        schedule = steps(parameters.ss_sampling_steps, parameters.ss_rescale_t, settings.guidance_interval)
        on_step = self._report_steps(Stage.SPARSE_STRUCTURE, 0, 1)
        rows = noise.flatten(1).t().contiguous()
        latents = sample(model, self._structure_velocity(), rows, schedule, guidance, on_step)
        check_finite(latents, "sparse structure")
        return latents.t().reshape(1, *noise.shape)

    def _structure_velocity(self) -> Velocity:
        model, graph = self.models.structure_flow, self.models.structure_graph
        if graph is None:
            return self._flow(model, model.grid(), COARSE)
        graph.set_image(model.contexts(self._features(COARSE)))
        return graph

    def _shape(self, coords: Tensor, resolution: int, noises: torch.Generator, on_step: OnStep) -> Tensor:
        parameters, settings = self.parameters, self.models.samplers["shape_slat"]
        model = self.models.flows["shape", resolution]
        guidance = Guidance(
            parameters.shape_slat_guidance_strength, parameters.shape_slat_guidance_rescale, settings.sigma_min
        )
        schedule = steps(
            parameters.shape_slat_sampling_steps, parameters.shape_slat_rescale_t, settings.guidance_interval
        )
        noise = self._noise(noises, len(coords), model.in_channels)
        latents = sample(model, self._flow(model, coords, resolution), noise, schedule, guidance, on_step)
        check_finite(latents, "shape")
        return self.models.shape_scale.restore(latents)

    def _texture(self, coords: Tensor, shape: Tensor, resolution: int, noises: torch.Generator) -> Tensor:
        parameters, settings = self.parameters, self.models.samplers["tex_slat"]
        model = self.models.flows["tex", resolution]
        shape_condition = self.models.shape_scale.apply(shape)
        guidance = Guidance(
            parameters.tex_slat_guidance_strength, parameters.tex_slat_guidance_rescale, settings.sigma_min
        )
        schedule = steps(parameters.tex_slat_sampling_steps, parameters.tex_slat_rescale_t, settings.guidance_interval)
        noise = self._noise(noises, len(coords), model.in_channels - shape_condition.shape[1])
        flow = self._flow(model, coords, resolution, shape_condition)
        latents = sample(model, flow, noise, schedule, guidance, self._report_steps(Stage.TEXTURE, 0, 1))
        check_finite(latents, "texture")
        return self.models.texture_scale.restore(latents)

    def _flow(
        self, model: FlowTransformer, coords: Tensor, side_px: int, shape_condition: Tensor | None = None
    ) -> Velocity:
        flow = ConditionedFlow(model, model.phases(coords), model.contexts(self._features(side_px)), shape_condition)
        return flow if self.models.graph_pool is None else GraphReplay(flow, self.models.graph_pool)

    def _features(self, side_px: int) -> Tensor:
        if side_px not in self._image_features:
            self._image_features[side_px] = self.conditioning.at(side_px)
        return self._image_features[side_px]

    def _noise(self, noises: torch.Generator, *shape: int) -> Tensor:
        """Draw noise on the CPU, so that a seed gives the same noise on every GPU."""
        return torch.randn(*shape, generator=noises).to(self.models.device)

    def _report_steps(self, stage: Stage, begins: float, ends: float) -> OnStep:
        return lambda done: self.progress(stage, begins + (ends - begins) * done)


def quantize(fine: Tensor, resolution: int, max_num_tokens: int) -> tuple[Tensor, int]:
    """Quantize voxels to the tokens of a cascade's second pass, at a resolution within the token limit.

    Args:
        fine: int32 [voxels, 3], the voxels of the first pass at 512^3.

    Returns:
        int32 [tokens, 3] in lexicographic order, in which noise is drawn; and the resolution.
    """
    while True:
        side = resolution // CELLS_PER_TOKEN
        cells = ((fine + 0.5) / COARSE * side).int().long()
        tokens = ((cells[:, 0] * side + cells[:, 1]) * side + cells[:, 2]).unique()
        if len(tokens) < max_num_tokens or resolution == FLOOR:
            break
        resolution -= LOWER_BY
    coords = torch.stack((tokens // side**2, tokens // side % side, tokens % side), dim=1)
    return coords.int(), resolution
