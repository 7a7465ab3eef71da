"""The images of the containers, pinned; layers that change seldom come first, the code last and never built in."""

from pathlib import Path

import modal

PYTHON = "3.11"
CODE = ("api", "worker", "shared", "infra")
PAGE = Path(__file__).parents[2] / "api" / "web"
REQUIREMENTS = Path(__file__).parents[1] / "requirements"


def _with_code(image: modal.Image) -> modal.Image:
    """Our code beside the image, mounted when a container starts: a change to it rebuilds no layer."""
    image = image.add_local_python_source(*CODE)
    # Python sources only, says Modal: what the page is made of has to be named.
    return image.add_local_dir(PAGE, "/root/api/web", ignore=["**/*.py"]) if PAGE.is_dir() else image


def cpu_image() -> modal.Image:
    """For the gateway, the sweeper, and workers without a GPU."""
    base = modal.Image.debian_slim(python_version=PYTHON)
    return _with_code(base.pip_install_from_requirements(str(REQUIREMENTS / "service.txt")))


def gpu_image() -> modal.Image:
    """For workers that run TRELLIS.2: PyTorch with the CUDA libraries of its wheels, and a compiler for Triton.

    CuMesh, FlexGEMM and o_voxel are not needed; nvdiffrast, nvdiffrec and RMBG-2.0 are not for commercial use, and
    flash-attn takes an hour to compile. None of them is here.
    """
    base = modal.Image.debian_slim(python_version=PYTHON).apt_install("build-essential")
    torch = base.pip_install_from_requirements(str(REQUIREMENTS / "gpu.txt"))
    return _with_code(torch.pip_install_from_requirements(str(REQUIREMENTS / "service.txt")))
