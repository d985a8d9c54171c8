"""The steps of fusion in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence

from trine.backends.cuda.fusion.attention import fuse_attention
from trine.backends.cuda.fusion.bottlenecks import fuse_bottlenecks
from trine.backends.cuda.fusion.chains import fuse_chains, fuse_diamonds
from trine.backends.cuda.fusion.concat import write_through
from trine.backends.cuda.fusion.copies import merge_copies
from trine.backends.cuda.fusion.epilogues import fuse_epilogues
from trine.backends.cuda.fusion.flatten import turn_flattened_weights
from trine.backends.cuda.fusion.gathers import fuse_gathers
from trine.backends.cuda.fusion.normal import fuse_normal
from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.fusion.prologues import fuse_prologues, fuse_squeeze_excitation
from trine.backends.cuda.fusion.space_to_depth import move_stride_into_channels
from trine.backends.cuda.fusion.statistics import keep_statistics_exact
from trine.backends.cuda.fusion.stem import pad_stem
from trine.backends.cuda.groups import Group

__all__ = ["STEPS", "fuse"]

STEPS = (
    fuse_diamonds,  # first: they hide activations from the products
    fuse_epilogues,  # next: a product takes what it can before pointwise groups take one another
    fuse_chains,
    fuse_attention,  # after fuse_chains, which brings together what is added to the scores
    turn_flattened_weights,
    fuse_squeeze_excitation,  # after epilogues, which put the activations into its two products
    fuse_prologues,  # after fuse_chains, which makes one scale, shift and activation of three groups
    merge_copies,  # before write_through: parts of what one producer makes are no whole buffers
    fuse_gathers,  # after merge_copies, whose copies need no index; before write_through, for whole buffers
    write_through,  # after all that asks for whole buffers
    move_stride_into_channels,  # before pad_stem, which takes the images that have no stride
    pad_stem,
    fuse_bottlenecks,  # near the end: what it makes is taken by nothing else
    fuse_normal,  # last: sums of weights are of those that the product is left with
)


def fuse(groups: Sequence[Group]) -> list[Group]:
    """Fewer groups that compute the same.

    Weights must be in fp32 still (see Lowering.weight): some steps compute with them.
    """
    program = Program(keep_statistics_exact(groups))
    for step in STEPS:
        step(program)
    return program.groups
