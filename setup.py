"""The parts of the package that are compiled: the kernels for mostly-zero and for two-bit matrices.

They are optional: where no compiler is found the package installs without them, and NumPy computes the same.
"""

import sys

from setuptools import Extension, setup

# The scalar sums of batch 1 must stay scalar (grouped into vectors they take 1.5 times as long), and products
# must not be fused, so that every processor gives the same bits.
FLAGS = ["-O3", "-g0", "-fno-tree-slp-vectorize", "-ffp-contract=off"]
KERNELS = "src/laconic/runtime/kernels"

setup(
    ext_modules=[
        Extension(
            f"laconic.runtime.kernels._{name}",
            [f"{KERNELS}/{name}.c"],
            depends=[f"{KERNELS}/call.h", f"{KERNELS}/memory.h"],
            extra_compile_args=[] if sys.platform == "win32" else FLAGS,
            py_limited_api=True,
            optional=True,
        )
        for name in ("sparse", "twobit")
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
