"""Moves zero padding into the convolution or average pooling behind it."""

from __future__ import annotations

import onnx_ir as ir

from trine.passes.rewriting import NodePass, axes_of, constant, int_attribute, is_op, made_by, rank_of, replace, scalar

__all__ = ["FusePad"]


class FusePad(NodePass):
    """Adds the amounts of a Pad with zeros to the ``pads`` of the Conv or AveragePool that follows.

    Before: ``a = Pad(x, [0, 0, 1, 1, 0, 0, 1, 1]); y = Conv(a, w, pads=[0, 0, 0, 0])``.
    After: ``y = Conv(x, w, pads=[1, 1, 1, 1])``.

    Stays: padding with anything but a constant zero; of the batch or channel axis; negative (cropping); that others
    use too; before ``auto_pad=SAME_*``. MaxPool keeps its Pad, as its own padding is minus infinity, not zero.
    AveragePool takes it where padding counts as an element: with ``count_include_pad=1`` or no padding of its own,
    never with ``ceil_mode=1``, whose last window leaves padding out.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the Conv or AveragePool back at the Pad."""
        if not is_op(node, "Conv", "AveragePool"):
            return False
        pad = made_by(node.inputs[0], "Pad")
        if pad is None or (source := pad.inputs[0]) is None:
            return False
        rank = rank_of(source) or rank_of(node.inputs[0])
        amounts = self._amounts(pad, rank) if rank is not None else None
        if rank is None or amounts is None or min(amounts) < 0:
            return False
        if any(amounts[axis] or amounts[rank + axis] for axis in (0, 1)):
            return False
        attributes = dict(node.attributes)
        if (attributes.pop("auto_pad").as_string() if "auto_pad" in attributes else "NOTSET") not in (
            "NOTSET",
            "VALID",
        ):
            return False
        spatial = rank - 2
        own = attributes.pop("pads").as_ints() if "pads" in attributes else [0] * (2 * spatial)
        added = [*amounts[2:rank], *amounts[rank + 2 :]]
        pads = [int(a) + b for a, b in zip(own, added, strict=True)]
        if node.op_type == "AveragePool" and not self._pool_counts(node, pads, spatial, padded=any(own)):
            return False
        fused = {**attributes, "pads": ir.AttrInt64s("pads", pads)}
        if node.op_type == "AveragePool":
            fused["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
        replace(node, node.op_type, [source, *node.inputs[1:]], fused.values(), absorbed=[pad])
        return True

    def _amounts(self, pad: ir.Node, rank: int) -> list[int] | None:
        """Begin amounts of all axes, then end amounts; None unless it pads with zeros by constant amounts."""
        if pad.attributes.get_string("mode", "constant") != "constant":
            return None
        if "pads" in pad.attributes:  # before opset 11
            amounts = [int(amount) for amount in pad.attributes["pads"].as_ints()]
            return amounts if len(amounts) == 2 * rank and pad.attributes.get_float("value", 0.0) == 0 else None
        if len(pad.inputs) > 2 and pad.inputs[2] is not None and scalar(pad.inputs[2]) != 0:
            return None
        given = constant(pad.inputs[1], limit=2 * rank)
        axes: tuple[int, ...] | None = tuple(range(rank))
        if len(pad.inputs) > 3 and pad.inputs[3] is not None:
            axes = axes_of(pad, 3)
        if given is None or axes is None or given.size != 2 * len(axes):
            return None
        amounts = [0] * (2 * rank)
        for position, axis in enumerate(axes):
            amounts[axis % rank] = int(given[position])
            amounts[rank + axis % rank] = int(given[len(axes) + position])
        return amounts

    def _pool_counts(self, pool: ir.Node, pads: list[int], spatial: int, *, padded: bool) -> bool:
        """Whether an AveragePool can take padding that counts as elements."""
        if self.opset < 7 or int_attribute(pool, "ceil_mode", 0):
            return False
        if padded and not int_attribute(pool, "count_include_pad", 0):
            return False
        kernel = pool.attributes["kernel_shape"].as_ints()
        # Backends refuse a window that could lie in the padding alone.
        return all(pads[axis] < kernel[axis] and pads[spatial + axis] < kernel[axis] for axis in range(spatial))
