"""BiRefNet (MIT, arXiv:2401.03407): which of a picture's pixels are the object's."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from worker.engines.trellis.models.dinov3 import DEVIATION, MEAN

SIDE_PX = 1024


class BiRefNet:
    """The published model, through its own code in the folder of its weights."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load it.

        Raises:
            ImportError: transformers, or what the model's code asks for, is not installed.
            OSError: the folder does not hold the model.
        """
        from transformers import AutoModelForImageSegmentation

        load: Any = AutoModelForImageSegmentation.from_pretrained
        self._model = load(str(folder), trust_remote_code=True, local_files_only=True).eval().float().to(device)
        self._device = device

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The object's alpha, uint8 [height, width], for uint8 [height, width, 3]."""
        height, width = rgb.shape[:2]
        square = Image.fromarray(rgb).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
        pixels = (np.asarray(square, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        seen = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device)
        # Quantised by cutting off, as torchvision's to_pil_image does it.
        alpha = self._model(seen)[-1].sigmoid()[0, 0].mul(255).byte().cpu().numpy()
        return np.asarray(Image.fromarray(alpha).resize((width, height)))
