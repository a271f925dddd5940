"""Keep plans on disk: the same again, in one order, and anything else refused by name."""

import pytest

from laconic.errors import InputError, WriteError
from laconic.records import KeepPlan
from laconic.structure import load_plan, save_plan

PLAN = KeepPlan({"b.weight:0": (0, 2), "a.weight:0": (1,)}, {"b.weight:0": 3, "a.weight:0": 2})


def test_a_saved_plan_is_the_same_plan(tmp_path):
    save_plan(PLAN, tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text()
    assert load_plan(tmp_path / "plan.json") == PLAN
    assert text.index("a.weight:0") < text.index("b.weight:0")
    assert load_plan(tmp_path / "plan.json") != KeepPlan({"a.weight:0": (0,)}, {"a.weight:0": 2})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no keep plan"),
        ("[]", "no keep plan"),
        ("[" * 100_000, "no keep plan"),
        ('{"format": "laconic keep plan 1", "groups": {"a": {"of": 1e999, "kept": []}}}', "no keep plan"),
        ('{"format": "laconic keep plan 1", "groups": {"a": {"of": 2}}}', "no keep plan"),
        ('{"format": "other", "groups": {}}', "'format'"),
        ('{"format": "laconic keep plan 1", "groups": {"a": {"of": 2, "kept": [1, 0]}}}', "rising"),
        ('{"format": "laconic keep plan 1", "groups": {"a": {"of": 2, "kept": [2]}}}', "below 2"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path, text, said):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        load_plan(path)
    assert str(path) in str(caught.value) and str(caught.value).count("Cure:") == 1
    with pytest.raises(InputError, match="missing"):
        load_plan(tmp_path / "missing.json")


def test_a_plan_is_written_whole_and_through_no_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "plan.json").symlink_to(victim)
    save_plan(PLAN, tmp_path / "plan.json")
    assert victim.read_text() == "precious"
    assert load_plan(tmp_path / "plan.json") == PLAN
    with pytest.raises(WriteError, match="Cure: make the folder that is missing"):
        save_plan(PLAN, tmp_path / "no" / "plan.json")
