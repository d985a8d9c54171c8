"""TensorRTPlan: what NVIDIA's TensorRT made of an engine's graph, as one more plan of the engine file.

    8 bytes   magic "TRNTRT01"
    8 bytes   length of the header, little-endian
    header    JSON: every field but ``data``
    data      the serialized engine, as TensorRT wrote it

executor.py runs one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trine.errors import EngineFormatError

__all__ = ["TENSORRT_PLAN", "TensorRTPlan"]

TENSORRT_PLAN = "tensorrt"  # the plan's name in an engine file

_MAGIC = b"TRNTRT01"
_MAX_HEADER = 256 << 20
_TEXTS = ("package", "version", "precision", "target")


@dataclass(frozen=True)
class TensorRTPlan:
    """package: "tensorrt" or "tensorrt_rtx", of ``version``. precision: what the graph was cast to before TensorRT
    got it. target: "sm_86", or "" for what the package builds for when nothing is said. layers: TensorRT's own, in
    order: name, kind, tactic, inputs and outputs (each "name dtype 1x3"), and the ONNX nodes it says they come from.
    ``data``: the serialized engine.
    """

    package: str
    version: str
    precision: str
    target: str
    layers: tuple[Mapping[str, Any], ...]
    data: bytes | memoryview = field(repr=False)

    @property
    def tactic(self) -> str:
        """What an engine says that it runs with."""
        return self.package

    def to_bytes(self) -> bytes:
        """As the engine file stores it."""
        fields = {**{name: getattr(self, name) for name in _TEXTS}, "layers": [dict(layer) for layer in self.layers]}
        header = json.dumps(fields, separators=(",", ":")).encode()
        return b"".join([_MAGIC, len(header).to_bytes(8, "little"), header, self.data])

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> TensorRTPlan:
        """What ``to_bytes`` wrote; ``data`` is a view, not a copy. Raises EngineFormatError for anything else."""
        view = memoryview(data).cast("B")
        try:
            return _read(view)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
            text = " ".join(str(err).split())[:200]
            raise EngineFormatError(
                f"damaged plan ({type(err).__name__}: {text}); build the engine again", f"plan/{TENSORRT_PLAN}"
            ) from err


def _read(view: memoryview) -> TensorRTPlan:
    if bytes(view[:8]) != _MAGIC:
        raise ValueError(f"expected the magic {_MAGIC.decode()}")
    length = int.from_bytes(view[8:16], "little")
    if not 0 < length <= min(_MAX_HEADER, len(view) - 16):
        raise ValueError(f"header of {length} bytes in a section of {len(view)}")
    fields: dict[str, Any] = json.loads(bytes(view[16 : 16 + length]))
    texts = {name: fields[name] for name in _TEXTS}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"expected texts, got {texts}")
    return TensorRTPlan(**texts, layers=tuple(_layer(layer) for layer in fields["layers"]), data=view[16 + length :])


def _layer(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: str(fields[name]) for name in ("name", "kind", "tactic")},
        **{name: [str(text) for text in fields[name]] for name in ("inputs", "outputs", "nodes")},
    }
