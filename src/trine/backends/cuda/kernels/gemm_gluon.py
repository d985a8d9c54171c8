"""Matrix products for Hopper, see hopper_product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trine.backends.cuda.groups import Gemm, Group
from trine.backends.cuda.kernels.gemm_operands import normal_refusals
from trine.backends.cuda.kernels.hopper_launch import NO_WINDOW, hopper_launch, refusals, unfit
from trine.backends.cuda.kernels.hopper_product import COMPILES
from trine.backends.cuda.kernels.hopper_tiles import Product, hopper_tiles
from trine.backends.cuda.tactic import Launch, TensorMap
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "HopperGemm"]


class HopperGemm:
    """Two matrices of 16 bits, both with the products side by side."""

    name = "gluon gemm"

    def __init__(self, compiles: bool = COMPILES) -> None:
        """compiles: whether the kernels can be compiled here, or machine code from elsewhere is at hand."""
        self.compiles = compiles

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Gemm):
            return Support((f"{type(group).__name__} is no matrix product",))
        reasons = [*refusals(self.compiles, target)]
        if len(group.y.shape) != 2:
            reasons.append(f"{len(group.y.shape) - 2} batch axes; wanted none")
        if group.prologue is not None:
            reasons.append("a prologue; rows go from memory to the tensor cores untouched")
        if group.normal is not None:
            reasons += normal_refusals(group.normal)
        views = {"a": group.a, "b": group.b, "y": group.y, "residual": group.epilogue.residual}
        reasons += unfit(views, group.epilogue.bias)
        if group.y.shape[-2] >= 1 << 30:
            reasons.append(f"{group.y.shape[-2]} rows; wanted fewer than 2**30")
        if not reasons and not self.configurations(group, target):
            reasons.append("no tile fits into shared memory")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_m: rows of a warp group; together, resident: see the kernel; stages: of the ring."""
        assert isinstance(group, Gemm)
        tiles = hopper_tiles(_product(group), target)
        # A thread of a wider tile has more sums of columns, beside the bias, than registers for them.
        return tiles if group.normal is None else [each for each in tiles if each["block_n"] <= 128]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Gemm)
        launch = hopper_launch(
            _product(group),
            configuration,
            target,
            x=TensorMap(group.a, (configuration["block_m"], configuration["block_k"])),
            w=group.b,
            y=group.y,
            residual=group.epilogue.residual,
            normal=group.normal,
            epilogue=group.epilogue,
            window=NO_WINDOW,
        )
        return [launch]


def _product(group: Gemm) -> Product:
    rows, columns = group.y.shape
    return Product(rows, columns, group.a.shape[-1], 0, group.epilogue.residual is not None)


TACTICS = (HopperGemm(),)
