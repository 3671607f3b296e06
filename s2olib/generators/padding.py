"""Mirror padding to the sizes that windows and strides need, for images of any size."""

from __future__ import annotations

import torch
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int, minimum: int = 0) -> Tensor:
    """`x` (B, C, H, W) continued to the right and below by its mirror image; the caller crops its result.

    Height and width become multiples of `multiple` and not less than `minimum`. The mirror goes back and forth as often
    as needed, so that images smaller than `multiple` are padded too. A size that fits is returned as it is.
    """
    for dim in (-2, -1):
        size = x.shape[dim]
        padded = -(-max(size, minimum) // multiple) * multiple
        if padded != size:
            position = torch.arange(padded, device=x.device) % max(1, 2 * size - 2)
            x = x.index_select(dim, size - 1 - (position - size + 1).abs())
    return x
