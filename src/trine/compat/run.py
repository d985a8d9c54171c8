"""Runs a program that uses tensorrt, torch2trt or pycuda, as it is: ``python -m trine.compat.run [--era 8] script.py``.

Its imports of these packages find trine's, whether or not the real ones are installed. So do its imports of cuda-python
where that cannot work: where it is not installed, or NVIDIA's driver is not; ``--cuda`` decides otherwise. PyTorch's
``.cuda()`` and ``device="cuda"`` give tensors in host memory then.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from trine.compat import cuda_works, install_as
from trine.compat.torch_cuda import use_host_memory
from trine.errors import ConfigError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the script with its own arguments. Returns 2 where the command line is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m trine.compat.run", description="Run a TensorRT program on trine, unchanged."
    )
    parser.add_argument("--era", help="the TensorRT version that it is written for: 5 to 8, 8.2, 8.6, 10, 10.0, 11, …")
    parser.add_argument(
        "--cuda",
        choices=("auto", "host", "real"),
        default="auto",
        help="what `import cuda` finds: trine's stand-in over host memory, the installed package, or (auto) the "
        "installed one where it can work; with the stand-in, PyTorch's .cuda() means host memory too",
    )
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module instead of a script")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="script.py …", help="the script and its arguments")
    options = parser.parse_args(arguments)
    if options.module is None and not options.rest:
        parser.print_usage(sys.stderr)
        return 2
    try:
        install_as("tensorrt", options.era)
        install_as("pycuda")
        folder = Path.cwd() if options.module is not None else Path(options.rest[0]).resolve().parent
        sys.path.insert(0, str(folder))  # before cuda is looked for: the program may bring its own
        if options.cuda == "host" or (options.cuda == "auto" and not cuda_works()):
            install_as("cuda")  # before PyTorch, which looks for it
            use_host_memory()
        install_as("torch2trt")
    except ConfigError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    if options.module is not None:
        sys.argv = [options.module, *options.rest]
        runpy.run_module(options.module, run_name="__main__", alter_sys=True)
        return 0
    script = Path(options.rest[0])
    if not script.is_file():
        print(f"error: {script}: no such file; give the path of a Python script", file=sys.stderr)
        return 2
    sys.argv = list(options.rest)
    runpy.run_path(str(script), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
