"""Facts about this machine's processor."""

from typing import Any


def converts_bf16(device: str) -> bool:
    """Return whether a processor only converts bfloat16 to and from float32, which is slower than float32.

    Args:
        device: type of the device. Only x86 processors ("cpu") are known to convert.

    Example:
        >>> converts_bf16("cuda")
        False
    """
    import torch

    # Older versions of torch lack get_capabilities.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {}
    return capabilities.get("architecture") == "x86_64" and not any(
        capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "avx_ne_convert")
    )
