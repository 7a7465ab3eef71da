"""The three stages of a job: sparse structure, shape (in one step or two), texture."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from shared.domain.job import Stage
from shared.domain.parameters import Parameters, PipelineType
from shared.errors import EmptySurface
from worker.engine import Progress
from worker.engines.trellis import sanity_checks
from worker.engines.trellis.conditioning import Conditioning
from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.models.model_set import PipelineModels
from worker.engines.trellis.sampling.cuda_graphs import GraphReplay
from worker.engines.trellis.sampling.guidance import Guidance
from worker.engines.trellis.sampling.latents import Latents
from worker.engines.trellis.sampling.sampler import ConditionedFlow, OnStep, Velocity, sample
from worker.engines.trellis.sampling.schedule import steps

SEEDS = 4  # tried before a structure counts as empty
CELLS_PER_TOKEN = 16  # voxels along each side of a token's cell
COARSE = 512  # the resolution of a cascade's first pass
FLOOR, LOWER_BY = 1024, 128  # how the token limit lowers a cascade's resolution
COARSE_SHARE = 0.2  # of the shape stage's time that a cascade's first pass takes, roughly


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pipeline type runs. side: of the structure's grid. resolution: of the final shape, before its limit.

    model: which shape and texture transformers, named by the resolution that they were trained for; their picture has
    that side too.
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
    """One job's way through the stages."""

    models: PipelineModels
    conditioning: Conditioning
    parameters: Parameters
    progress: Progress
    _pictures: dict[int, Tensor] = field(default_factory=dict)

    def run(self, seed: int) -> Latents:
        """Sample all stages.

        Raises:
            EmptySurface: no cell is occupied, with any of four seeds; or a cascade's first pass leaves none.
            OutputInvalid: a stage ended in numbers that are not finite.
        """
        plan = PLANS[self.parameters.pipeline_type]
        seed, noises, coords = self._structure(seed, plan)
        resolution = plan.resolution
        if plan.cascade:
            coarse = self._shape(coords, COARSE, noises, self._steps_of(Stage.SHAPE, 0, COARSE_SHARE))
            fine = self.models.shape_decoder.finest_cells(coarse, coords)
            if len(fine) == 0:
                raise EmptySurface("the shape's first pass has no voxel left")
            coords, resolution = quantize(fine, plan.resolution, self.parameters.max_num_tokens)
        shape = self._shape(
            coords, plan.model, noises, self._steps_of(Stage.SHAPE, COARSE_SHARE if plan.cascade else 0, 1)
        )
        texture = self._texture(coords, shape, plan.model, noises)
        self.progress(Stage.TEXTURE, 1)
        return Latents(coords, shape, texture, resolution, seed, self.parameters.pipeline_type)

    def _structure(self, seed: int, plan: Plan) -> tuple[int, torch.Generator, Tensor]:
        """The seed that worked, its generator and the occupied cells.

        A flat structure counts only if no seed gives a solid one: some objects are flat.
        """
        flat = None
        for tried in range(seed, seed + SEEDS):
            noises = torch.Generator().manual_seed(tried)
            coords = self.models.structure_decoder.occupied(self._structure_latents(noises), plan.side)
            if sanity_checks.is_solid(coords):
                return tried, noises, coords
            if flat is None and len(coords):
                flat = tried, noises, coords
        if flat is None:
            raise EmptySurface(f"no seed from {seed} to {seed + SEEDS - 1} gives this picture any structure")
        return flat

    def _structure_latents(self, noises: torch.Generator) -> Tensor:
        models, parameters = self.models, self.parameters
        model, side = models.structure_flow, models.structure_flow.resolution
        noise = self._noise(noises, model.in_channels, side, side, side)
        settings = models.samplers["sparse_structure"]
        guidance = Guidance(parameters.ss_guidance_strength, parameters.ss_guidance_rescale, settings.sigma_min)
        schedule = steps(parameters.ss_sampling_steps, parameters.ss_rescale_t, settings.guidance_interval)
        on_step = self._steps_of(Stage.SPARSE_STRUCTURE, 0, 1)
        rows = noise.flatten(1).t().contiguous()
        latents = sample(model, self._structure_velocity(), rows, schedule, guidance, on_step)
        sanity_checks.check_finite(latents, "sparse structure")
        return latents.t().reshape(1, *noise.shape)

    def _structure_velocity(self) -> Velocity:
        model, recorded = self.models.structure_flow, self.models.structure_graph
        if recorded is None:
            return self._flow(model, model.grid(), COARSE)
        recorded.show(model.contexts(self._picture(COARSE)))
        return recorded

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
        sanity_checks.check_finite(latents, "shape")
        return self.models.shape_scale.restore(latents)

    def _texture(self, coords: Tensor, shape: Tensor, resolution: int, noises: torch.Generator) -> Tensor:
        parameters, settings = self.parameters, self.models.samplers["tex_slat"]
        model = self.models.flows["tex", resolution]
        beside = self.models.shape_scale.apply(shape)
        guidance = Guidance(
            parameters.tex_slat_guidance_strength, parameters.tex_slat_guidance_rescale, settings.sigma_min
        )
        schedule = steps(parameters.tex_slat_sampling_steps, parameters.tex_slat_rescale_t, settings.guidance_interval)
        noise = self._noise(noises, len(coords), model.in_channels - beside.shape[1])
        flow = self._flow(model, coords, resolution, beside)
        latents = sample(model, flow, noise, schedule, guidance, self._steps_of(Stage.TEXTURE, 0, 1))
        sanity_checks.check_finite(latents, "texture")
        return self.models.texture_scale.restore(latents)

    def _flow(self, model: FlowTransformer, coords: Tensor, side_px: int, beside: Tensor | None = None) -> Velocity:
        flow = ConditionedFlow(model, model.phases(coords), model.contexts(self._picture(side_px)), beside)
        return flow if self.models.graph_pool is None else GraphReplay(flow, self.models.graph_pool)

    def _picture(self, side_px: int) -> Tensor:
        if side_px not in self._pictures:
            self._pictures[side_px] = self.conditioning.at(side_px)
        return self._pictures[side_px]

    def _noise(self, noises: torch.Generator, *shape: int) -> Tensor:
        """Drawn on the CPU, so that a seed means the same on every GPU."""
        return torch.randn(*shape, generator=noises).to(self.models.device)

    def _steps_of(self, stage: Stage, begins: float, ends: float) -> OnStep:
        return lambda done: self.progress(stage, begins + (ends - begins) * done)


def quantize(fine: Tensor, resolution: int, max_num_tokens: int) -> tuple[Tensor, int]:
    """The tokens, int32 [tokens, 3], of a cascade's second pass, and the resolution that keeps them within the limit.

    fine: int32 [voxels, 3], what the first pass found at 512^3. The order is lexicographic: noise is dealt in it.
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
