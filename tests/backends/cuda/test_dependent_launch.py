"""Kernels that begin by waiting: where the instructions go, and that ptxas takes them."""

import pytest
from backends.cuda.kernels.test_conv import LARGE

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from trine.backends.cuda.compiler import compile_kernel
from trine.backends.cuda.dependent_launch import begin_by_waiting, waits
from trine.backends.cuda.kernels.conv_launch import ImplicitGemmConv
from trine.backends.cuda.target import TARGETS

PTX = """.version 8.7
.target sm_90a
.visible .entry kernel(
\t.param .align 64 .b8 kernel_param_0[128],
\t.param .u32 kernel_param_1,
\t.param .u64 .ptr .global .align 1 kernel_param_2,
\t.param .u64 .ptr .global .align 1 kernel_param_3
)
.reqntid 128
{
\t.reg .pred \t%p<9>;
\t.reg .b64 \t%rd<21>;
\t.loc\t1 6 0
$L__func_begin0:
\t.loc\t1 6 0

// %bb.0:
\tld.param.b32 \t%r17, [kernel_param_1];
\tret;
}
"""


def test_it_waits_and_fetches_ahead_before_its_first_instruction():
    changed = begin_by_waiting(PTX)
    assert waits(changed)
    assert not waits(PTX)
    before, after = PTX.split("// %bb.0:\n")
    assert changed.startswith(before)
    assert changed.endswith(after)
    added = changed[len(before) : -len(after)]
    assert "ld.param.b64 %ahead_d1, [kernel_param_2];" in added
    assert "ld.param.b64 %ahead_d2, [kernel_param_3];" in added
    assert added.startswith("// %bb.0:\n\tgriddepcontrol.wait;\n")
    assert "cp.async.bulk.prefetch.L2" in added
    assert all(f"%{name}" in added for name in ("ctaid.x", "ctaid.y", "ctaid.z")), "blocks are numbered over all axes"
    assert "launch_dependents" not in changed


@pytest.mark.parametrize("kind", ["u32", "b8"])
def test_ptx_without_room_for_what_to_fetch(kind):
    ptx = PTX.replace(".param .u64 .ptr .global .align 1 kernel_param_3", f".param .{kind} kernel_param_3")
    with pytest.raises(ValueError, match="wanted two addresses"):
        begin_by_waiting(ptx)


@pytest.mark.parametrize("kernels", [0, 2])
def test_ptx_of_other_than_one_kernel(kernels):
    with pytest.raises(ValueError, match=f"PTX of {kernels} kernels; wanted one"):
        begin_by_waiting(PTX * kernels)


@pytest.mark.parametrize(("name", "expected"), [("sm_80", False), ("sm_89", False), ("sm_90", True), ("sm_100", True)])
def test_kernels_wait_where_the_architecture_can(name, expected):
    conv, target, group = ImplicitGemmConv(), TARGETS[name], next(iter(LARGE.values()))
    source = conv.launches(group, conv.configurations(group, target)[0], target)[0].kernel
    assert compile_kernel(source, target).waits is expected
