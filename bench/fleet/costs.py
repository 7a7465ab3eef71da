"""python -m bench.fleet.costs computes the cost of an asset on Modal by preset, from stage times and Modal's prices.

The times of sampling, decoding and extraction are measured on an H200, which computes as fast as an H100; see
docs/performance.md. No time was measured on an A100 yet: its sampling times are those that the first version of the
service published, an upper bound.
"""

from dataclasses import dataclass

from infra.settings.modal import GPU_USD_PER_S, ModalSettings

# modal.com/pricing: a physical core, a GiB of memory.
CORE_USD_PER_S, GIB_USD_PER_S = 0.0000131, 0.00000222
COLD_S = 60.0  # until a worker is ready; computed, see docs/operations.md

SAMPLE_S = {
    "H100": {"512": 1.1, "1024_cascade": 5.2, "1536_cascade": 19.6},  # bench.trellis.sampler, all stages of each
    "A100-80GB": {"512": 10.0, "1024_cascade": 30.0, "1536_cascade": 90.0},  # the first version's documents
}
# bench.extraction.gpu on an H200, the knot of 5.28 million faces, and 0.8 s of decoding; an A100's is taken to be as
# long.
EXTRACT_S = {"max_quality": 4.9, "web": 2.1, "game": 1.6}
CONTENTION_S = (
    1.3  # bench.service.gpu_worker: 20 assets in a row took so much longer each than their sampling does alone
)


@dataclass(frozen=True)
class Worker:
    """A worker of the default layout with one kind of GPU."""

    gpu: str
    layout: ModalSettings

    @property
    def usd_per_s(self) -> float:
        """US dollars per second of its container."""
        return worker_usd_per_s(self.gpu, cores=self.layout.worker_cpu, gib=self.layout.worker_memory_mib / 1024)

    def busy_usd(self, pipeline: str, preset: str) -> float:
        """US dollars of a job on a busy fleet: the longer of sampling, slowed by a finishing job, and finishing."""
        return max(SAMPLE_S[self.gpu][pipeline] + CONTENTION_S, EXTRACT_S[preset]) * self.usd_per_s

    def single_job_usd(self, pipeline: str, preset: str, *, cold_s: float = 0.0) -> float:
        """US dollars of a job with no job after it: both halves, and the scaledown window in which the worker idles."""
        both_s = SAMPLE_S[self.gpu][pipeline] + EXTRACT_S[preset]
        return (cold_s + both_s + self.layout.scaledown_window_s) * self.usd_per_s


def worker_usd_per_s(gpu: str, *, cores: float, gib: float) -> float:
    """US dollars per second of a container."""
    return GPU_USD_PER_S[gpu] + cores * CORE_USD_PER_S + gib * GIB_USD_PER_S


def format_table() -> list[str]:
    """Format the table of docs/operations.md, one string per line."""
    head = ["GPU", "`pipeline_type`", *(f"`{preset}`" for preset in EXTRACT_S), "single job, warm", "single job, cold"]
    rows = [head, ["---"] * len(head)]
    for gpu, pipelines in SAMPLE_S.items():
        worker = Worker(gpu, ModalSettings())
        for pipeline in pipelines:
            busy = [f"${worker.busy_usd(pipeline, preset):.4f}" for preset in EXTRACT_S]
            single_job = [f"${worker.single_job_usd(pipeline, 'web', cold_s=cold_s):.2f}" for cold_s in (0.0, COLD_S)]
            rows.append([gpu, f"`{pipeline}`", *busy, *single_job])
    return [f"| {' | '.join(cells)} |" for cells in rows]


def main() -> None:
    """Print the table."""
    print("US dollars an asset: by preset on a busy fleet; then a single `web` job, with the idle window of its worker")
    print("\n".join(format_table()))


if __name__ == "__main__":
    main()
