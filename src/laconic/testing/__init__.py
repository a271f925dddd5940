"""Checks that a package of one's own can run against its methods, tasks and KL rules.

Each raises AssertionError with the property that does not hold, so that a test is one call. They need no
network and no files: methods are tried on the 8 x 8 digits in the package. They need the ``train`` extra.
"""

from laconic.testing.kl import check_kl
from laconic.testing.methods import check_method
from laconic.testing.tasks import check_task

__all__ = ["check_kl", "check_method", "check_task"]
