from __future__ import annotations

import pytest

from skewscope.comparison.names import matched, short

ELEMENTWISE = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, "
    "at::detail::Array<char*, 3> >"
    "(int, at::native::CUDAFunctor_add<float>, at::detail::Array<char*, 3>)"
)


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        (ELEMENTWISE, "at::native::vectorized_elementwise_kernel"),
        ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)", "nccl AllReduce"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "nccl AllReduce"),
        ("void rcclGenericKernel<1, false>(ncclDevKernelArgsStorage<4096ul>)", "nccl generic"),
        ("ampere_sgemm_64x32_sliced1x4_tn", "ampere_sgemm_64x32_sliced1x4_tn"),
        ("triton_red_fused__to_copy_add_3_0", "triton_red_fused__to_copy_add"),
        ("kernel [clone .kd]", "kernel"),
        ("", ""),
        ("bool operator<(int, int)", "bool operator<(int, int)"),
        ("broken<<<(", "broken"),
    ],
)
def test_short_names(name, bare):
    assert short(name) == bare


def test_a_name_that_both_know_is_never_taken_for_another():
    keys = matched(["f<1>", "f<2>"], ["f<1>", "f<3>"])
    assert keys == {"f<1>": "f<1>", "f<2>": "f", "f<3>": "f"}
    assert matched(["f<2>"], ["f<3>"], exact=True) == {"f<2>": "f<2>", "f<3>": "f<3>"}
