"""OnnxParser: fills a network from an ONNX model, and says in which node and why where it cannot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import eras
from trine.compat.tensorrt.enums import current, mask_of, names_in
from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.logger import Reporter
from trine.compat.tensorrt.parser_error import ParserError
from trine.errors import TrineError, UnsupportedError

if TYPE_CHECKING:
    from trine.compat.tensorrt.network import INetworkDefinition
    from trine.compat.tensorrt.tensor import ITensor

__all__ = ["OnnxParser", "get_nv_onnx_parser_version"]


def get_nv_onnx_parser_version() -> int:
    """The parser's version as one number, as TensorRT's: major * 10000 + minor * 100 + patch."""
    from trine.compat.tensorrt.eras import reported_version

    major, minor, patch = (int(part) for part in reported_version().split(".")[:3])
    return major * 10000 + minor * 100 + patch


class OnnxParser(Checked):
    """Fills a network from an ONNX model. ``parse`` gives False where it cannot, and the errors say why."""

    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        from trine.compat.tensorrt.network import INetworkDefinition

        if not isinstance(network, INetworkDefinition):
            raise TypeError(f"expected a tensorrt.INetworkDefinition, got {type(network).__name__}")
        self._network = network
        self._reporter = Reporter(logger)
        self._errors: list[ParserError] = []
        self._flags: set[str] = {"NATIVE_INSTANCENORM"}
        self._config: Any = None
        self._loaded: tuple[bytes, str | None] | None = None
        self._initializers: dict[str, bytes] = {}

    def parse(self, model: Any, path: str | None = None) -> bool:
        """Fill the network from the bytes of a model; ``path`` is the file that they came from, for external data."""
        return self._parse(bytes(model), None if path is None else Path(path))

    def parse_from_file(self, model: str) -> bool:
        """Fill the network from a file."""
        from trine.importers.onnx_proto import read_file

        path = Path(model).expanduser()
        try:
            data = read_file(path)
        except TrineError as err:
            self._note("MODEL_DESERIALIZE_FAILED", str(err))
            return False
        return self._parse(data, path)

    parse_with_weight_descriptors = parse

    def _parse(self, data: bytes, path: Path | None) -> bool:
        from trine.compat.tensorrt.parsed_network import ParsedNetwork
        from trine.compat.tensorrt.parsed_types import with_int32_ends

        network = self._network
        if network.num_layers or network.num_inputs:
            self._note("INVALID_GRAPH", "the network has layers already; parse into one that is empty")
            return False
        model = self._read(data, path)
        if model is None:
            return False
        narrowed = eras.before(10) and with_int32_ends(model)
        parsed = ParsedNetwork(model, path)
        parsed.changed = narrowed
        network._adopt(parsed, path if _has_external(model) and path is not None else data)
        return True

    def _read(self, data: bytes, path: Path | None) -> Any:
        """The model, checked; None where it cannot be taken, with the errors noted."""
        from trine.importers import onnx_proto, onnx_support

        what = "the ONNX model" if path is None else str(path)
        try:
            model = onnx_proto.parse(data, what)
        except TrineError as err:
            self._note("MODEL_DESERIALIZE_FAILED", str(err))
            return None
        try:
            onnx_support.check_support(model, what)
        except UnsupportedError as err:
            for problem in err.problems or (str(err),):
                self._note_problem(problem, model)
            return None
        try:
            onnx_proto.check_names(model, what)
            onnx_proto.check_tensor_sizes(model)
            if not _has_external(model):
                onnx_proto.check(model, what)
            elif path is None:
                self._note("INVALID_GRAPH", "its weights are in other files; give their place with path=")
                return None
        except TrineError as err:
            self._note("INVALID_GRAPH", str(err))
            return None
        return model

    def _note(self, code: str, desc: str, node: int = -1, name: str = "", operator: str = "") -> None:
        error = ParserError(code, desc, node, name, operator)
        self._errors.append(error)
        self._reporter.error("OnnxParser::parse", error, "INVALID_ARGUMENT")

    def _note_problem(self, problem: str, model: Any) -> None:
        """One of check_support's lines, with the node that it is about."""
        found = re.match(r"node '(.*?)': operator", problem)
        if found is None:
            self._note("UNSUPPORTED_GRAPH", problem)
            return
        for index, node in enumerate(model.graph.node):
            if found[1] in (node.name, *node.output):
                self._note("UNSUPPORTED_NODE", problem, index, node.name, node.op_type)
                return
        self._note("UNSUPPORTED_NODE", problem)

    # Errors.

    @property
    def num_errors(self) -> int:
        """How many errors there are."""
        return len(self._errors)

    def get_error(self, index: int) -> ParserError | None:
        """Error ``index``; None where there is none."""
        return self._errors[index] if 0 <= index < len(self._errors) else None

    def clear_errors(self) -> None:
        """Forget all errors."""
        self._errors.clear()

    # Asking before parsing.

    def supports_operator(self, op_name: str) -> bool:
        """Whether an ONNX operator can be imported."""
        import onnx.defs

        return any(schema.name == op_name and not schema.domain for schema in onnx.defs.get_all_schemas())

    def supports_model(self, model: Any, path: str | None = None) -> tuple[bool, list[tuple[list[int], bool]]]:
        """Whether the model can be imported, and its nodes' numbers in groups that can or cannot."""
        good = self.supports_model_v2(model, path)
        return good, [
            (self.get_subgraph_nodes(index), self.is_subgraph_supported(index)) for index in range(len(self._groups))
        ]

    def supports_model_v2(self, model: Any, path: str | None = None) -> bool:
        """Whether the model can be imported; ``num_subgraphs`` and the rest then say which nodes can."""
        before = len(self._errors)
        read = self._read(bytes(model), None if path is None else Path(path))
        bad = {error.node() for error in self._errors[before:] if error.node() >= 0}
        count = 0
        if read is not None:
            count = len(read.graph.node)
        elif bad:
            from trine.importers.onnx_proto import parse

            count = len(parse(bytes(model), "the ONNX model").graph.node)
        groups: list[tuple[list[int], bool]] = []
        for index in range(count):
            good = index not in bad
            if not groups or groups[-1][1] != good:
                groups.append(([], good))
            groups[-1][0].append(index)
        self._found_groups = groups
        return read is not None

    @property
    def _groups(self) -> list[tuple[list[int], bool]]:
        found: list[tuple[list[int], bool]] = self.__dict__.get("_found_groups", [])
        return found

    @property
    def num_subgraphs(self) -> int:
        """How many groups of nodes ``supports_model_v2`` found."""
        return len(self._groups)

    def is_subgraph_supported(self, index: int) -> bool:
        """Whether a group's nodes can be imported."""
        return self._groups[index][1]

    def get_subgraph_nodes(self, index: int) -> list[int]:
        """A group's nodes' numbers."""
        return list(self._groups[index][0])

    # Flags.

    @property
    def flags(self) -> int:
        """A mask of the OnnxParserFlags set."""
        return mask_of("OnnxParserFlag", self._flags)

    @flags.setter
    def flags(self, mask: int) -> None:
        self._flags = names_in("OnnxParserFlag", mask)

    def set_flag(self, flag: Any) -> None:
        """Set a flag. Kept and shown: they choose between NVIDIA's kernels and plugins."""
        self._flags.add(current("OnnxParserFlag")[flag.name].name)

    def clear_flag(self, flag: Any) -> None:
        """Take a flag back."""
        self._flags.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:
        """Whether a flag is set."""
        return flag.name in self._flags

    def get_layer_output_tensor(self, name: str, i: int) -> ITensor | None:
        """Output ``i`` of the layer that was made of the node ``name``; None where there is none."""
        for layer in self._network:
            if layer.name == name:
                return layer.get_output(i)
        return None

    def get_used_vc_plugin_libraries(self) -> list[str]:
        """An empty list: no plugin is used."""
        return []

    def set_builder_config(self, builder_config: Any) -> bool:
        """Kept: what can be imported does not depend on it."""
        self._config = builder_config
        return True

    # In two steps, with weights from the program's memory.

    def load_model_proto(self, model: Any, path: str | None = None) -> bool:
        """Take a model's bytes, for ``parse_model_proto``."""
        self._loaded = bytes(model), path
        return True

    def load_initializer(self, name: str, data: int, size: int) -> bool:
        """Take a weight's bytes from memory, for ``parse_model_proto``. False where that memory must not be read."""
        from trine.compat.memory import refusal, view

        why = refusal(int(data), int(size))
        if why is not None:
            self._reporter.error("OnnxParser::loadInitializer", f"{name!r}: {why}")
            return False
        self._initializers[str(name)] = view(int(data), int(size)).tobytes()
        return True

    def parse_model_proto(self) -> bool:
        """Fill the network from what was loaded."""
        if self._loaded is None:
            self._note("INVALID_VALUE", "no model was loaded; call load_model_proto first")
            return False
        data, path = self._loaded
        if self._initializers:
            import onnx

            model = onnx.load_from_string(data)
            for tensor in model.graph.initializer:
                if tensor.name in self._initializers:
                    del tensor.external_data[:]
                    tensor.data_location = onnx.TensorProto.DEFAULT
                    tensor.raw_data = self._initializers[tensor.name]
            data = model.SerializeToString()
        return self.parse(data, path)

    def __enter__(self) -> OnnxParser:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the parser goes with the last reference."""


def _has_external(model: Any) -> bool:
    return any(tensor.data_location == 1 for tensor in model.graph.initializer)  # TensorProto.EXTERNAL
