"""What is compiled of the package: kernels for sparse and two-bit matrices, the coder, its models, training.

All are optional: where no compiler is found the package installs without and computes the same by NumPy.
"""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The scalar sums of batch 1 must stay scalar (grouped into vectors they take 1.5 times as long), and products
# must not be fused, so that every processor gives the same bits.
GNU = ["-O3", "-g0", "-fno-tree-slp-vectorize", "-ffp-contract=off"]
# Nothing looks at floating-point exceptions or errno: comparisons and roots may be vectors. Same values.
STRAIGHT = ["-fno-trapping-math", "-fno-math-errno"]
# Microsoft's compiler fuses under /fp:fast alone, or before 2022 also under /fp:precise with /arch:AVX2.
MICROSOFT = ["/O2", "/std:c11", "/fp:precise"]
KERNELS = "src/laconic/runtime/kernels"
CODECS = "src/laconic/pack/codecs"
BAYES = "src/laconic/bayes"
SHARED = [f"{KERNELS}/call.h", f"{KERNELS}/memory.h"]


class Build(build_ext):
    """The flags are the compiler's own."""

    def build_extension(self, extension: Extension) -> None:  # noqa: D102 - the base class says it
        own = extension.extra_compile_args
        extension.extra_compile_args = MICROSOFT if self.compiler.compiler_type == "msvc" else [*GNU, *own]
        super().build_extension(extension)


def extension(name: str, source: str, depends: list[str], gnu: list[str] | None = None) -> Extension:
    """One optional module against Python's stable interface; ``gnu``: further flags for GNU's compilers."""
    return Extension(
        name, [source], depends=depends, extra_compile_args=gnu or [], py_limited_api=True, optional=True
    )


setup(
    cmdclass={"build_ext": Build},
    ext_modules=[
        extension("laconic.runtime.kernels._sparse", f"{KERNELS}/sparse.c", SHARED),
        extension("laconic.runtime.kernels._twobit", f"{KERNELS}/twobit.c", SHARED),
        extension("laconic.pack.codecs._coder", f"{CODECS}/coder.c", [f"{CODECS}/ans.h"]),
        extension("laconic.pack.codecs._adaptive", f"{CODECS}/adaptive.c", [f"{CODECS}/ans.h"]),
        extension("laconic.pack.codecs._mixed", f"{CODECS}/mixed.c", [f"{CODECS}/ans.h"]),
        extension("laconic.quantize._columns", "src/laconic/quantize/columns.c", [], STRAIGHT),
        extension("laconic.bayes.kl._sweep", f"{BAYES}/kl/sweep.c", [f"{BAYES}/kl/blocks.h"], STRAIGHT),
        extension("laconic.bayes.kl._mixture", f"{BAYES}/kl/mixture.c", [f"{BAYES}/kl/blocks.h"], STRAIGHT),
        extension("laconic.bayes._noise", f"{BAYES}/noise.c", [], STRAIGHT),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
