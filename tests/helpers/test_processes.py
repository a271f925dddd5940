"""Fresh processes: a failure is not swallowed, and torch is behind a wall."""

import pytest

from tests.helpers.commands import laconic
from tests.helpers.fresh import run_fresh


def test_what_is_printed_comes_back_and_a_failure_raises():
    assert run_fresh("print(6 * 7)") == "42\n"
    with pytest.raises(AssertionError, match=r"status 1(.|\n)*ZeroDivisionError"):
        run_fresh("1 / 0")


@pytest.mark.parametrize("name", ["torch", "torch.nn", "lightning_fabric"])
def test_no_torch_behind_the_wall(name):
    with pytest.raises(AssertionError, match=f"no {name.partition('.')[0]}"):
        run_fresh(f"import {name}", without_torch=True)
    run_fresh("import numpy", without_torch=True)


def test_a_wrong_command_ends_with_a_status_and_words():
    done = laconic("compres")
    assert done.returncode == 2 and "compres" in done.stderr
