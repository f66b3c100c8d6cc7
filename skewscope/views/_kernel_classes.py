"""What kind of work a device kernel does, told from its name."""

from __future__ import annotations

import re
from functools import lru_cache

CLASSES = (
    ("communication", r"nccl|rccl|msccl|hccl|nvshmem|deep_ep|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all"),
    ("attention", r"flash|fmha|attention|attn|mha_|paged_|\bsdpa|aiter::fmha|mla_"),
    (
        "matrix product",
        r"gemm|gemv|cublas|matmul|cijk_|splitk|wgrad|dgrad|nvjet|_mm_|\bmm_|\bbmm|dot_kernel|tensile|xmma",
    ),
    ("convolution", r"conv(?!ert)|cudnn|implicit_|winograd|miopen|im2col|col2im|fft"),
    ("normalisation", r"norm(?!al_)|welford"),
    ("softmax and loss", r"softmax|cross_entropy|nll_loss|\bloss"),
    ("embedding and index", r"embedding|index|gather|scatter|sort|topk|radix|scan|unique|histogram|rotary|rope"),
    ("optimizer", r"adam|sgd|lamb(?!da)|optimizer|multi_tensor|foreach"),
    ("random", r"dropout|philox|distribution|random|bernoulli|normal_"),
    ("experts", r"moe|expert|permute|token_dispatch"),
    ("reduction", r"reduce|reduction|\bsum_|\bmax_|argmax|argmin"),
    ("copy and fill", r"memcpy|memset|copy|fill|cat_?array|catarray|transpose|\bcast|pad_"),
    (
        "element by element",
        r"elementwise|vectorized|pointwise|activation|gelu|silu|relu|unrolled|binary|unary|triton_poi",
    ),
    ("fused by a compiler", r"^triton_|fused|xla|fusion"),
)
_PATTERNS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in CLASSES)
UNNAMED = "(many short ones)"


@lru_cache(8192)
def kernel_class(name: str) -> str:
    """Return the class of a kernel, "other" where its name tells nothing.

    >>> kernel_class("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_cublas")
    'matrix product'
    >>> kernel_class("void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float> >(int)")
    'element by element'
    >>> kernel_class("void clover::par_ranged2d_kernel<viscosity_kernel(field&)::{lambda(int, int)#1}>(int)")
    'other'
    """
    bare = name.split("(", 1)[0] if not name.startswith("(") else name
    for text in (bare, name):
        found = next((kind for kind, pattern in _PATTERNS if pattern.search(text)), "")
        if found:
            return found
    return "other"
