"""Which nodes run on the GPU and which on the CPU, in turns: every change of sides costs a wait and two copies."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

__all__ = ["Dataflow"]


class Dataflow:
    """Who reads what in a graph, graphs inside of nodes (the branches of an If, the body of a Loop) included."""

    def __init__(self, graph: ir.Graph) -> None:
        self.nodes = list(graph)
        own = {*graph.inputs, *graph.initializers.values(), *(value for node in self.nodes for value in node.outputs)}
        self.reads: dict[ir.Node, tuple[ir.Value, ...]] = {
            node: tuple(dict.fromkeys(value for value in _mentioned(node) if value in own)) for node in self.nodes
        }
        self.readers: dict[ir.Value, list[ir.Node]] = {}
        for node, values in self.reads.items():
            for value in values:
                self.readers.setdefault(value, []).append(node)

    def batches(self, on_cpu: Collection[ir.Node]) -> list[tuple[bool, list[ir.Node]]]:
        """All nodes as (whether on the CPU, nodes) in an order in which they can run, the GPU first.

        Each batch has all nodes of its side that can run by then, whether they are connected or not: branches that
        leave the GPU beside one another do so together.
        """
        found: list[tuple[bool, list[ir.Node]]] = []
        done: set[ir.Node] = set()
        left, cpu = self.nodes, False
        while left:
            taken, later = [], []
            for node in left:  # in topological order, so one walk finds all that becomes possible
                producers = (value.producer() for value in self.reads[node])
                if (node in on_cpu) is cpu and all(each is None or each in done for each in producers):
                    taken.append(node)
                    done.add(node)
                else:
                    later.append(node)
            if taken:
                found.append((cpu, taken))
            left, cpu = later, not cpu
        return found


def _mentioned(node: ir.Node) -> Iterator[ir.Value]:
    """Every value that a node names, those in its inner graphs included."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = list(attribute.as_graphs())
        else:
            continue
        for graph in graphs:
            for inner in graph:
                yield from _mentioned(inner)
            yield from graph.outputs
