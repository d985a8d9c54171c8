"""What groups layers: loops, conditionals, attention."""

# Which class shows a layer is decided when it is added:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.foundation import to_trine
from trine.compat.tensorrt.properties import trine_member

if TYPE_CHECKING:
    from trine.compat.tensorrt.more_layers import (
        IConditionLayer,
        IIfConditionalInputLayer,
        IIfConditionalOutputLayer,
        IIteratorLayer,
        ILoopOutputLayer,
        IRecurrenceLayer,
        ITripLimitLayer,
    )
    from trine.compat.tensorrt.network import INetworkDefinition
    from trine.compat.tensorrt.tensor import ITensor

__all__ = ["IAttention", "IIfConditional", "ILoop"]


class _Group(Checked):
    """A handle on one of trine's groups of layers; the same object for the same group."""

    def __init__(self, network: INetworkDefinition, group: Any) -> None:
        self._network = network
        self._group = group
        self._name = ""

    @classmethod
    def _of(cls, network: INetworkDefinition, group: Any) -> Any:
        known: dict[Any, Any] = network.__dict__.setdefault("_groups", {})
        if group not in known:
            known[group] = cls(network, group)
        return known[group]

    @property
    def name(self) -> str:
        """Its name, for people."""
        return str(getattr(self._group, "name", self._name) or self._name)

    @name.setter
    def name(self, name: str) -> None:
        self._name = str(name)
        if hasattr(self._group, "name"):
            self._group.name = str(name)


class ILoop(_Group):
    """A loop: its recurrences, iterators, trip limit and outputs."""

    def add_recurrence(self, initial_value: ITensor) -> IRecurrenceLayer:
        """A value that each turn hands to the next; give the next by ``set_input(1, tensor)``."""
        first = self._network._unwrap(initial_value)
        return self._network._add("ILoop::addRecurrence", lambda: self._group.add_recurrence(first))

    def add_trip_limit(self, tensor: ITensor, kind: Any) -> ITripLimitLayer:
        """How often it goes round."""
        limit, member = self._network._unwrap(tensor), trine_member("TripLimit", kind)
        return self._network._add("ILoop::addTripLimit", lambda: self._group.add_trip_limit(limit, member))

    def add_iterator(self, tensor: ITensor, axis: int = 0, reverse: bool = False) -> IIteratorLayer:
        """One slice of a tensor each turn."""
        source = self._network._unwrap(tensor)
        return self._network._add(
            "ILoop::addIterator", lambda: self._group.add_iterator(source, int(axis), bool(reverse))
        )

    def add_loop_output(self, tensor: ITensor, kind: Any, axis: int = 0) -> ILoopOutputLayer:
        """What it gives: a recurrence's last value, or the values of all turns; ``set_input(1, …)`` is how many."""
        source, member = self._network._unwrap(tensor), trine_member("LoopOutput", kind)
        return self._network._add(
            "ILoop::addLoopOutput", lambda: self._group.add_loop_output(source, member, int(axis))
        )


class IIfConditional(_Group):
    """A conditional: its condition, inputs and outputs."""

    def set_condition(self, condition: ITensor) -> IConditionLayer:
        """What it depends on, a single bool."""
        which = self._network._unwrap(condition)
        return self._network._add("IIfConditional::setCondition", lambda: self._group.set_condition(which))

    def add_input(self, input: ITensor) -> IIfConditionalInputLayer:  # noqa: A002
        """A tensor that its branches use."""
        source = self._network._unwrap(input)
        return self._network._add("IIfConditional::addInput", lambda: self._group.add_input(source))

    def add_output(self, true_subgraph_output: ITensor, false_subgraph_output: ITensor) -> IIfConditionalOutputLayer:
        """What it gives: one tensor or the other."""
        yes, no = self._network._unwrap(true_subgraph_output), self._network._unwrap(false_subgraph_output)
        return self._network._add("IIfConditional::addOutput", lambda: self._group.add_output(yes, no))


class IAttention(_Group):
    """Scaled dot-product attention over (batch, heads, sequence, size)."""

    @property
    def num_inputs(self) -> int:
        """How many inputs it has."""
        return int(self._group.num_inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs it has."""
        return int(self._group.num_outputs)

    def get_input(self, index: int) -> ITensor | None:
        """Query, key, value."""
        return self._network._wrap(self._group.get_input(index)) if 0 <= index < self.num_inputs else None

    def get_output(self, index: int) -> ITensor | None:
        """What it gives."""
        return self._network._wrap(self._group.get_output(index)) if 0 <= index < self.num_outputs else None

    def set_input(self, index: int, tensor: ITensor) -> bool:
        """Let input ``index`` be ``tensor``."""
        theirs = self._network._unwrap(tensor)
        return self._set(lambda: self._group.set_input(index, theirs))

    def _set(self, action: Any) -> bool:
        def run() -> bool:
            action()
            return True

        return bool(self._network._attempt("IAttention", run))

    @property
    def mask(self) -> ITensor | None:
        """What is added to the scores, or says which count."""
        found = self._group.mask
        return None if found is None else self._network._wrap(found)

    @mask.setter
    def mask(self, mask: ITensor) -> None:
        theirs = self._network._unwrap(mask)
        self._set(lambda: setattr(self._group, "mask", theirs))

    @property
    def norm_op(self) -> Any:
        """What is done to the scores."""
        from trine.compat.tensorrt.enums import current, member_name

        return current("AttentionNormalizationOp")[member_name(self._group.norm_op)]

    @norm_op.setter
    def norm_op(self, op: Any) -> None:
        member = trine_member("AttentionNormalizationOp", op)
        self._set(lambda: setattr(self._group, "norm_op", member))

    @property
    def causal(self) -> bool:
        """Whether a query sees only keys up to its own place."""
        found = self._group.causal
        return found if isinstance(found, bool) else getattr(found, "name", "NONE") != "NONE"

    @causal.setter
    def causal(self, causal: bool) -> None:
        self._set(lambda: setattr(self._group, "causal", bool(causal)))

    @property
    def causal_kind(self) -> Any:
        """From which corner a query sees keys."""
        from trine.compat.tensorrt.enums import current, member_name

        return current("CausalMaskKind")[member_name(self._group.causal_kind)]

    @causal_kind.setter
    def causal_kind(self, kind: Any) -> None:
        member = trine_member("CausalMaskKind", kind)
        self._set(lambda: setattr(self._group, "causal_kind", member))

    @property
    def num_ranks(self) -> int:
        """1: one process computes everything."""
        return 1

    @property
    def decomposable(self) -> bool:
        """True: trine may compute it by parts."""
        return True

    @decomposable.setter
    def decomposable(self, value: bool) -> None:
        """Accepted: the answer is the same."""

    metadata = options.kept("metadata", "", "Text that the program keeps with it.")

    @property
    def normalization_quantize_to_type(self) -> Any:
        """Not set: see the setter."""
        return None

    @normalization_quantize_to_type.setter
    def normalization_quantize_to_type(self, dtype: Any) -> None:
        to_trine(dtype)
        self._network._reporter.error(
            "IAttention::setNormalizationQuantizeToType", "trine computes attention in its inputs' type"
        )
