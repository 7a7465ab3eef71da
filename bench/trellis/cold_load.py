"""Compare loading the weights of a flow transformer (2.6 GB): upstream's from_pretrained and .cuda(), and ours.

python -m bench.trellis.cold_load --upstream CHECKOUT     (needs a GPU; writes the file to a temporary folder)
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.trellis import upstream
from worker.engines.trellis.models.checkpoint import read_checkpoint

DEVICE = torch.device("cuda")
ROUNDS = 3


def main() -> None:
    """Write a checkpoint and read it in both ways; every tensor must be equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", type=Path, required=True, help="checkout of the TRELLIS.2 repository")
    upstream.add_to_path(parser.parse_args().upstream)
    from trellis2 import models

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "flow"
        arguments = upstream.flow_arguments()
        model = upstream.build_random_model(models.SLatFlowModel, arguments, DEVICE)
        save_file({name: tensor.cpu() for name, tensor in model.state_dict().items()}, f"{path}.safetensors")
        Path(f"{path}.json").write_text(json.dumps({"name": "SLatFlowModel", "args": arguments}))
        del model
        size_gb = Path(f"{path}.safetensors").stat().st_size / 1e9
        for _ in range(ROUNDS):
            start = time.perf_counter()
            ours = read_checkpoint(path, DEVICE)
            torch.cuda.synchronize()
            ours_s = time.perf_counter() - start
            print(f"{size_gb:.2f} GB: ours {ours_s:.2f} s, {size_gb / ours_s:.1f} GB/s", flush=True)
        start = time.perf_counter()
        theirs = models.from_pretrained(str(path)).cuda()
        torch.cuda.synchronize()
        theirs_s = time.perf_counter() - start
        equal = all(torch.equal(tensor, ours.tensors[name]) for name, tensor in theirs.state_dict().items())
        print(f"upstream {theirs_s:.2f} s, {theirs_s / ours_s:.1f} times; equal: {equal}")


if __name__ == "__main__":
    main()
