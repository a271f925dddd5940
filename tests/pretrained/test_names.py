"""What names of pretrained networks are refused before anything is loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from laconic.errors import InputError
from laconic.pretrained import check_place, load_network, place_of
from tests.helpers import libraries


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", libraries.transformers())
    monkeypatch.setitem(sys.modules, "timm", libraries.timm())


def _refused(text: str) -> str:
    place = place_of(text)
    assert place is not None
    with pytest.raises(InputError) as caught:
        check_place(place)
    message = str(caught.value)
    assert message.startswith(text) and "Cure:" in message
    return message


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("hf:a/b", "b"),
        ("hf:/x/y/", "y"),
        ("hf:.", "hf"),
        ("timm:a.b_in1k", "a.b_in1k"),
        ("hf:..", "hf"),
        ("hf:a b", "a-b"),
    ],
)
def test_short_names_are_safe_in_paths(text: str, short: str) -> None:
    place = place_of(text)
    assert place is not None and place.short == short


def test_functions_are_no_places() -> None:
    assert place_of("nets:mine") is None and place_of("hf") is None


def test_a_whole_folder_and_a_name_pass(tmp_path: Path) -> None:
    for text in (f"hf:{libraries.folder(tmp_path / 'a')}", "hf:owner/name", "hf:name", "timm:tinynet_050"):
        place = place_of(text)
        assert place is not None
        check_place(place)


@pytest.mark.parametrize("name", ["", "a/b/c", "../up", "./nowhere", "/nowhere/at/all", "a b", "-x;rm y"])
def test_no_folder_and_no_name(name: str) -> None:
    assert "no such folder" in _refused(f"hf:{name}")


def test_no_config(tmp_path: Path) -> None:
    assert "no config.json" in _refused(f"hf:{tmp_path}")


@pytest.mark.parametrize("text", ["{", "[1]", "\xff", "[" * 5000])
def test_a_config_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json" in _refused(f"hf:{tmp_path}")


@pytest.mark.parametrize("source", ["hf", "timm"])
def test_pickles_are_not_read(tmp_path: Path, source: str) -> None:
    name = libraries.folder(tmp_path / "a", weights="pytorch_model.bin")
    message = _refused(f"{source}:{name}")
    assert "pytorch_model.bin, a pickle" in message
    assert source == "timm" or "transformers.TinyForSequenceClassification.from_pretrained(" in message


def test_no_weights(tmp_path: Path) -> None:
    assert "no model.safetensors" in _refused(f"hf:{libraries.folder(tmp_path / 'a', weights='')}")


def test_a_folder_of_timm(tmp_path: Path) -> None:
    name = libraries.folder(tmp_path / "a", {"architecture": "tinynet_050"})
    assert f"Cure: timm:{name}" in _refused(f"hf:{name}")


def test_weights_in_several_files(tmp_path: Path) -> None:
    name = libraries.folder(tmp_path / "a", weights="model.safetensors.index.json")
    index = tmp_path / "a" / "model.safetensors.index.json"
    assert "no index" in _refused(f"hf:{name}")
    for part in ("../b.safetensors", "/etc/passwd", "a.bin"):
        index.write_text(json.dumps({"weight_map": {"w": part}}))
        assert repr(part) in _refused(f"hf:{name}")
    index.write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    assert "has no a.safetensors" in _refused(f"hf:{name}")
    (tmp_path / "a" / "a.safetensors").write_bytes(b"")
    place = place_of(f"hf:{name}")
    assert place is not None
    check_place(place)


@pytest.mark.parametrize(
    ("text", "package"), [("hf:owner/name", "transformers"), ("timm:tinynet_050", "timm")]
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, text: str, package: str) -> None:
    monkeypatch.setattr("laconic.pretrained.names._installed", lambda name: False)
    assert f"pip install {package}" in _refused(text)


def test_what_names_no_network() -> None:
    with pytest.raises(InputError, match="names no pretrained network"):
        load_network("nets:mine")


_SOURCE = """
@register_model
def tinynet_050(pretrained=False, **kwargs):
    pass


def helper(x):
    pass


register_model_deprecations(__name__, {
    'tinynet_old': 'tinynet_050.in1k',
})
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package timm that takes forever to import: importing it fails the test."""
    (tmp_path / "timm" / "models").mkdir(parents=True)
    (tmp_path / "timm" / "__init__.py").write_text("raise AssertionError('timm was imported')")
    (tmp_path / "timm" / "models" / "tinynet.py").write_text(_SOURCE)
    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("name", ["tinynet_050", "tinynet_050.in1k", "tinynet_old"])
def test_names_of_timm_pass_without_its_import(name: str) -> None:
    place = place_of(f"timm:{name}")
    assert place is not None
    check_place(place)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("name", ["tinynet_055", "helper"])
def test_a_name_that_timm_does_not_have_is_refused_without_its_import(name: str) -> None:
    message = _refused(f"timm:{name}")
    assert "timm has no such network. Cure: " in message
    if name == "tinynet_055":
        assert message.endswith("did you mean tinynet_050?")
