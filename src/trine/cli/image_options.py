"""Options about images; apart from what does the work, so that --help loads no NumPy."""

from __future__ import annotations

from trine.cli.parser import Parser, argument_type, positive_int
from trine.errors import ConfigError

__all__ = ["add_image_options"]


def add_image_options(parser: Parser) -> None:
    """--resize, --mean, --std, --scale, --layout, --bgr."""
    group = parser.add_argument_group("images: (pixel x scale - mean) / std")
    group.add_argument(
        "--resize", type=positive_int, metavar="PIXELS", help="shorter side before the centre crop (crop / 0.875)"
    )
    numbers = argument_type(_numbers)
    group.add_argument("--scale", type=argument_type(_number), help="1/255, so that pixels are 0 to 1")
    group.add_argument("--mean", type=numbers, metavar="R,G,B", help="0.485,0.456,0.406 (ImageNet); 0 for grey images")
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="0.229,0.224,0.225 (ImageNet); 1 for grey images")
    group.add_argument(
        "--layout", choices=("nchw", "nhwc"), help="default: nhwc if the last dimension is 1 or 3, else nchw"
    )
    group.add_argument("--bgr", action="store_true", help="blue, green, red instead of red, green, blue")


def _number(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"expected a number or a fraction such as 1/255, got {text!r}") from None


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(","))
