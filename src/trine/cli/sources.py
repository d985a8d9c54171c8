"""A model as the command line names it: ``model.onnx``, or ``package.module:callable`` for PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trine.cli.parser import nearest
from trine.cli.shapes import ShapeTriple
from trine.errors import ConfigError, MissingDependencyError, ModelImportError

__all__ = ["Source", "load_source", "sole_input"]


@dataclass(frozen=True)
class Source:
    """What was named: an ONNX file's path, or a module (an ``nn.Module``) with its example inputs."""

    text: str
    model: Any
    example_inputs: Any = None

    @property
    def is_onnx(self) -> bool:
        """Whether ``model`` is the path of an ONNX file."""
        return isinstance(self.model, Path)


def load_source(text: str, *, shapes: dict[str, ShapeTriple] | None = None, seed: int = 0) -> Source:
    """The model that ``text`` names.

    A callable is imported from the working directory, the installed packages, or a file (``net.py:make``), and
    called without arguments; it returns an ``nn.Module``, or ``(module, example_inputs)``. Without example inputs,
    random float32 ones are made from ``shapes`` (opt). Raises ConfigError for what cannot be found,
    ModelImportError when the callable fails.
    """
    path = Path(text).expanduser()
    if path.suffix.lower() == ".onnx" or path.is_file() or ":" not in path.name:
        if not path.is_file():
            raise ConfigError(_no_file(path, text))
        if path.suffix == ".py":
            raise ConfigError(f"{text} is Python; name what makes the model in it: {text}:make")
        return Source(text, path)
    built = _call(_find(text), text)
    module, example_inputs = built, None
    if isinstance(built, tuple):
        if len(built) != 2:
            raise ConfigError(
                f"{text} returned a tuple of {len(built)}; return an nn.Module, or (module, example_inputs)"
            )
        module, example_inputs = built
    if not callable(getattr(module, "forward", None)):
        raise ConfigError(f"{text} returned {type(module).__name__}; return an nn.Module, or (module, example_inputs)")
    if example_inputs is None:
        example_inputs = _random_examples(module, text, shapes, seed)
    elif hasattr(example_inputs, "shape"):
        example_inputs = (example_inputs,)
    return Source(text, module, example_inputs)


def _no_file(path: Path, text: str) -> str:
    if path.is_dir():
        return f"{text} is a folder; name the .onnx file in it"
    folder = path.parent
    siblings = [p.name for p in folder.glob("*.onnx")] if folder.is_dir() else []
    guess = nearest(path.name, siblings)
    if guess:
        return f"{text}: no such file; did you mean {folder / guess}?"
    return f"{text}: no such file; give an .onnx file, or package.module:callable for a PyTorch model"


def _find(text: str) -> Any:
    module_name, _, attributes = text.partition(":")
    if not module_name or not attributes:
        raise ConfigError(f"{text!r}: write package.module:callable, such as torchvision.models:resnet18")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does; an installed command has no such entry
    if module_name.endswith(".py") and not Path(module_name).expanduser().is_file():
        raise ConfigError(f"{module_name}: no such file")
    try:
        found: Any = _import_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
    except ModuleNotFoundError as err:
        if err.name and (module_name == err.name or module_name.startswith(f"{err.name}.")):
            raise ConfigError(
                f"{text}: there is no Python module {err.name!r} in {Path.cwd()} or among the installed packages"
            ) from err
        raise MissingDependencyError(
            f"{module_name} imports {err.name!r}, which is not installed: pip install {err.name}"
        ) from err
    except Exception as err:  # the user's module may raise anything
        raise ModelImportError(f"importing {module_name} failed: {type(err).__name__}: {err}") from err
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            guess = nearest(attribute, [name for name in vars(found) if not name.startswith("_")])
            raise ConfigError(
                f"{text}: {module_name} has no {attribute!r}{f'; did you mean {guess}?' if guess else ''}"
            )
        found = getattr(found, attribute)
    return found


def _import_file(text: str) -> Any:
    """The module in one file, under the file's name; its neighbours can be imported too."""
    path = Path(text).expanduser().resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and torch look a class's module up there
    spec.loader.exec_module(module)
    return module


def sole_input(source: Source) -> str:
    """The name of the only input, for a shape given without one. Raises ConfigError if there are several."""
    if source.is_onnx:
        from trine.engine.onnx_reader import read_graph
        from trine.errors import EngineFormatError

        try:
            names = list(read_graph(source.model.read_bytes()).inputs)
        except EngineFormatError as err:
            raise ModelImportError(f"{source.text} is no ONNX file: {err}") from err
    else:
        names = list(inspect.signature(source.model.forward).parameters)[: len(source.example_inputs)]
    if len(names) != 1:
        raise ConfigError(f"{source.text} has {len(names)} inputs: {', '.join(names)}; write NAME:SHAPE for each")
    return names[0]


def _call(found: Any, text: str) -> Any:
    if hasattr(found, "forward") and not isinstance(found, type):
        return found  # a module that already exists, not a function that makes one
    if not callable(found):
        raise ConfigError(f"{text} is {type(found).__name__}; name a function that returns an nn.Module")
    try:
        return found()
    except Exception as err:  # and so may the user's function
        raise ModelImportError(f"{text}() failed: {type(err).__name__}: {err}") from err


def _random_examples(module: Any, text: str, shapes: dict[str, ShapeTriple] | None, seed: int) -> tuple[Any, ...]:
    if not shapes:
        raise ConfigError(
            f"{text} returned a module without example inputs; return (module, example_inputs), or give the"
            " inputs' shapes: --shapes=input:1x3x224x224"
        )
    import torch

    parameters = list(inspect.signature(module.forward).parameters)
    if list(shapes) != [""]:
        unknown = [name for name in shapes if name not in parameters]
        if unknown:
            raise ConfigError(
                f"input {unknown[0]!r} is no parameter of {text}'s forward; it has: {', '.join(parameters)}"
            )
        names = [name for name in parameters if name in shapes]
        if names != parameters[: len(names)]:
            raise ConfigError(f"give a shape for each of forward's first inputs: {', '.join(parameters)}")
    else:
        names = [""]
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shapes[name][1], generator=generator) for name in names)
