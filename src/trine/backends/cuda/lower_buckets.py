"""The graph lowered for every number of rows, until there is a tactic for every group that is left to the GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trine.backends.cuda.choose import Chooser
from trine.backends.cuda.cpu_group import CpuGroup
from trine.backends.cuda.lowering import Lowered, Weights, lower
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph

__all__ = ["lower_buckets"]


def lower_buckets(
    graph: PortableGraph,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    rows: Sequence[int],
    precision: str,
    chooser: Chooser,
    cpu_fallback: bool,
    say: Callable[[str], None],
) -> tuple[dict[int, Lowered], dict[str, str]]:
    """For each number of rows; and the names of the nodes that the CPU has as no tactic takes what they are lowered
    to, with why. Raises UnsupportedError as ``lower`` does.

    A node is left to the CPU for all numbers of rows, or for none; as the graph is then cut elsewhere, and its groups
    fused in other ways, all is lowered and asked again.
    """
    refused: dict[str, str] = {}
    weights = Weights()
    while True:
        lowered = {}
        more: dict[str, str] = {}
        for count in rows:
            say(f"lower for {count} rows")
            made = lower(
                graph,
                count,
                tuple(inputs),
                tuple(outputs),
                precision,
                cpu_fallback=cpu_fallback,
                refused=refused,
                weights=weights,
            )
            lowered[count] = made
            for group in made.groups if cpu_fallback else ():
                reason = None if isinstance(group, CpuGroup) else chooser.refusal(group)
                if reason is not None:
                    more |= {
                        name: f"no tactic for the {type(group).__name__}: {reason}" for name in made.nodes_of(group)
                    }
        if more.keys() <= refused.keys():
            return lowered, refused
        refused |= more
