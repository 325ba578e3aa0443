"""In which numbers a device computes best.

Its text is part of a generated Dafne ``apply`` function; see :mod:`.dafne_source`.
"""

import contextlib
from functools import cache

import torch


def cpu_has_fast_bf16() -> bool:
    """Tell whether bfloat16 convolutions run in hardware on this processor."""
    with contextlib.suppress(AttributeError, RuntimeError):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


@cache
def precision(device: torch.device) -> torch.dtype:
    """Return the fastest type that this device has in hardware and computes rightly.

    bfloat16, or float16 on a CUDA card without it (on a CPU that is a hundred times slower
    than float32), if a small convolution comes out as in float32; else float32.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        wanted = torch.bfloat16 if fast else torch.float16
    elif device.type == "cpu" and cpu_has_fast_bf16():
        wanted = torch.bfloat16
    else:
        return torch.float32
    return wanted if convolves_rightly(device, wanted) else torch.float32


def convolves_rightly(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether a small convolution in `dtype` runs and comes out as in float32."""
    image = torch.linspace(-1, 1, 2 * 8 * 8**3, device=device).sin().reshape(2, 8, 8, 8, 8)
    kernel = torch.linspace(-9, 9, 8 * 8 * 3**3, device=device).cos().reshape(8, 8, 3, 3, 3)
    with torch.inference_mode():
        exact = torch.nn.functional.conv3d(image, kernel)
        try:
            with torch.autocast(device.type, dtype):
                found = torch.nn.functional.conv3d(image, kernel).float()
        except RuntimeError:
            return False
        # bfloat16 has 8 bits. A number that is none compares as False.
        return bool((found - exact).abs().max() <= 0.02 * exact.abs().max())


def autocast(device: torch.device, *, float16: bool = False) -> torch.autocast:
    """Return the context in which a network computes on `device`.

    Parameters
    ----------
    device
        Where the network is.
    float16
        Whether the caller can do with float16 where there is no bfloat16: it needs no
        gradients, or scales them.
    """
    dtype = precision(device)
    if dtype == torch.float32 or (dtype == torch.float16 and not float16):
        return torch.autocast("cpu", torch.bfloat16, enabled=False)
    return torch.autocast(device.type, dtype)
