"""What is compiled of the package: the kernels for mostly-zero and two-bit matrices, the coder, its models.

All are optional: where no compiler is found the package installs without and computes the same by NumPy.
"""

import sys

from setuptools import Extension, setup

# The scalar sums of batch 1 must stay scalar (grouped into vectors they take 1.5 times as long), and products
# must not be fused, so that every processor gives the same bits.
FLAGS = [] if sys.platform == "win32" else ["-O3", "-g0", "-fno-tree-slp-vectorize", "-ffp-contract=off"]
KERNELS = "src/laconic/runtime/kernels"
PACK = "src/laconic/pack"
SHARED = [f"{KERNELS}/call.h", f"{KERNELS}/memory.h"]


def extension(name: str, source: str, depends: list[str]) -> Extension:
    """One optional module against Python's stable interface."""
    return Extension(
        name, [source], depends=depends, extra_compile_args=FLAGS, py_limited_api=True, optional=True
    )


setup(
    ext_modules=[
        extension("laconic.runtime.kernels._sparse", f"{KERNELS}/sparse.c", SHARED),
        extension("laconic.runtime.kernels._twobit", f"{KERNELS}/twobit.c", SHARED),
        extension("laconic.pack._coder", f"{PACK}/coder.c", [f"{PACK}/ans.h"]),
        extension("laconic.pack._adaptive", f"{PACK}/adaptive.c", [f"{PACK}/ans.h"]),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
