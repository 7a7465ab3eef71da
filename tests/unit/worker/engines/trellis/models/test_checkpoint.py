"""Reading checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from worker.engines.trellis.models import checkpoint
from worker.engines.trellis.models.checkpoint import in_precision, read_checkpoint, read_tensors

CPU = torch.device("cpu")


def test_tensors_come_back_as_they_were_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dtype and shape, over as many chunks as it takes."""
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 1_000)
    saved = {
        "matrix": torch.randn(30, 50),
        "half": torch.randn(7, 3, 3).half(),
        "brain": torch.randn(5).bfloat16(),
        "cells": torch.arange(12, dtype=torch.int32).reshape(4, 3),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 4),
    }
    save_file(saved, tmp_path / "model.safetensors")
    read = read_tensors(tmp_path / "model.safetensors", CPU)
    assert saved.keys() == read.keys()
    for name, tensor in saved.items():
        torch.testing.assert_close(read[name], tensor, rtol=0, atol=0)


def test_tensors_start_where_tensor_cores_want_them(tmp_path: Path) -> None:
    """Even where the file packs them at odd places."""
    save_file({"a": torch.zeros(3, dtype=torch.uint8), "b": torch.ones(5, dtype=torch.uint8)}, tmp_path / "odd")
    assert [0, 0] == [tensor.data_ptr() % 16 for tensor in read_tensors(tmp_path / "odd", CPU).values()]


def test_checkpoint_is_a_json_file_and_its_weights(tmp_path: Path) -> None:
    """Class, arguments, tensors."""
    (tmp_path / "flow.json").write_text(json.dumps({"name": "SLatFlowModel", "args": {"num_blocks": 3}}))
    save_file({"x": torch.ones(2)}, tmp_path / "flow.safetensors")
    read = read_checkpoint(tmp_path / "flow", CPU)
    assert ("SLatFlowModel", {"num_blocks": 3}, ["x"]) == (read.name, read.args, list(read.tensors))


@pytest.mark.parametrize("kept", [4, 100, -9])
def test_cut_off_file_is_refused(tmp_path: Path, kept: int) -> None:
    """In its length, its header or its data: an error that says so, never weights of garbage."""
    file = tmp_path / "cut.safetensors"
    save_file({"matrix": torch.randn(30, 50), "other": torch.randn(9)}, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cut off"):
        read_tensors(file, CPU)


def test_precision_is_the_models_and_not_the_files() -> None:
    """A file in one dtype throughout is taken as upstream takes it: a coarse torso with exact norms and ends."""
    coarse = {"blocks.0.1.conv1.weight", "blocks.0.self_attn.to_qkv.bias", "middle_block.0.conv1.weight"}
    exact = {
        "blocks.0.norm2.weight",
        "blocks.0.1.norm.bias",
        "blocks.0.self_attn.q_rms_norm.gamma",
        "blocks.0.modulation",
        "input_layer.weight",
        "out_layer.0.weight",
    }
    for stored in (torch.bfloat16, torch.float32):
        held = in_precision({name: torch.ones(2, dtype=stored) for name in coarse | exact}, torch.bfloat16)
        assert coarse == {name for name, tensor in held.items() if tensor.dtype == torch.bfloat16}
        assert exact == {name for name, tensor in held.items() if tensor.dtype == torch.float32}


def test_phases_in_a_file_are_left_alone() -> None:
    """They are complex, and are computed instead."""
    phases = torch.ones(2, dtype=torch.complex64)
    assert in_precision({"rope_phases": phases}, torch.bfloat16)["rope_phases"] is phases
