"""The one part of the package that is compiled: the kernel for matrices that are mostly zero.

It is optional: where no compiler is found the package installs without it and computes the same by NumPy.
"""

import sys

from setuptools import Extension, setup

# The scalar sums of batch 1 must stay scalar (grouped into vectors they take 1.5 times as long), and products
# must not be fused, so that every processor gives the same bits.
FLAGS = ["-O3", "-g0", "-fno-tree-slp-vectorize", "-ffp-contract=off"]

setup(
    ext_modules=[
        Extension(
            "laconic.runtime.kernels._sparse",
            ["src/laconic/runtime/kernels/sparse.c"],
            depends=[f"src/laconic/runtime/kernels/{name}.h" for name in ("memory", "quick")],
            extra_compile_args=[] if sys.platform == "win32" else FLAGS,
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
