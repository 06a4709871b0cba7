"""Fitting: whether the tensors of a checkpoint are those of this model and of this optimizer.

In:  a checkpoint's folder; what was read, what is wanted. Out: nothing, or a DataError that names the first difference.
Holds: nothing is trained or asked that does not fit, though every hash agrees: torch turns other types into its own in
       silence, begins moments that are missing at zero, and its fused optimizer writes past the end of shorter ones.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dataprep.errors import DataError
from train.optim import Optimizer, moment_names


def refuse_other_weights(folder: Path, file: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise DataError unless names, shapes and types are the model's."""
    for name in [*wanted, *found]:
        seen, want = (_form(weights.get(name)) for weights in (found, wanted))
        if seen != want:
            raise unfit(folder, f"{file}: {name} {seen}", want)


def refuse_other_moments(folder: Path, file: str, optimizer: Optimizer, settings: Sequence[set[str]]) -> None:
    """Raise DataError unless a loaded optimizer has its `settings`, group by group, and its moments of every weight."""
    for group, names in zip(optimizer.param_groups, settings, strict=True):
        if missing := names - group.keys():
            raise unfit(folder, f"{file}: no {', '.join(sorted(missing))}", "every setting of the optimizer")
        for number, weight in enumerate(group["params"]):
            moments = optimizer.state.get(weight, {})
            for name in moment_names(group):
                seen, want = _shape(moments.get(name)), [] if name == "step" else list(weight.shape)
                if seen != want:
                    raise unfit(folder, f"{file}: {name} of weight {number} {seen}", f"shape {want}")


def unfit(folder: Path, seen: Any, wanted: Any) -> DataError:
    """What is said of a checkpoint that is as it was saved, but of something else."""
    aside = folder.with_name(f"damaged_{folder.name}")
    return DataError(
        f"checkpoint {folder.name} does not fit what is to be loaded from it, though its hashes agree",
        seen=seen,
        wanted=wanted,
        fix=f"{shlex.join(['mv', str(folder), str(aside)])}   # then the newest before it is used",
    )


def _form(tensor: Tensor | None) -> str:
    return "is not there" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _shape(value: Any) -> list[int] | str:
    return list(value.shape) if isinstance(value, Tensor) else "is missing"
