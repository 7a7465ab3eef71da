"""The images of the containers, pinned; layers that change seldom come first, the code last and never built in."""

from pathlib import Path

import modal

PYTHON = "3.11"
CODE = ("api", "worker", "shared", "infra")
PAGE = Path(__file__).parents[1] / "api" / "page"
REQUIREMENTS = Path(__file__).with_name("requirements") / "service.txt"

CUDA = "nvidia/cuda:13.0.1-devel-ubuntu24.04"  # devel, since FlexGEMM is compiled and Triton compiles at run time
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "transformers==4.57.3")  # transformers 5 cannot read DINOv3
BUILD = ("setuptools==80.9.0", "wheel==0.45.1", "ninja==1.13.0")
# MIT. From its commit, since it is on no index. nvdiffrast, nvdiffrec, RMBG-2.0 (not for commercial use) and
# flash-attn (an hour to compile, and no faster than what PyTorch has) are in no image.
FLEX_GEMM = "git+https://github.com/JeffreyXiang/FlexGEMM@6dd94a859c26ee8246888502eada3dd8ad85532e"
ARCHITECTURES = "8.0;8.9;9.0"  # A100, L40S, H100: compiled for all, whichever the container gets


def _with_code(image: modal.Image) -> modal.Image:
    """Our code beside the image, mounted when a container starts: a change to it rebuilds no layer."""
    image = image.add_local_python_source(*CODE)
    # Python sources only, says Modal: what the page is made of has to be named.
    return image.add_local_dir(PAGE, "/root/api/page", ignore=["**/*.py"]) if PAGE.is_dir() else image


def cpu_image() -> modal.Image:
    """For the gateway, the sweeper, and workers without a GPU."""
    base = modal.Image.debian_slim(python_version=PYTHON)
    return _with_code(base.pip_install_from_requirements(str(REQUIREMENTS)))


def gpu_image() -> modal.Image:
    """For workers that run TRELLIS.2."""
    cuda = modal.Image.from_registry(CUDA, add_python=PYTHON).entrypoint([]).apt_install("git", "build-essential")
    torch = cuda.pip_install(*TORCH, *BUILD)
    kernels = torch.env({"TORCH_CUDA_ARCH_LIST": ARCHITECTURES, "CUDA_HOME": "/usr/local/cuda"}).pip_install(
        FLEX_GEMM, extra_options="--no-build-isolation --no-deps"
    )
    return _with_code(kernels.pip_install_from_requirements(str(REQUIREMENTS)))
