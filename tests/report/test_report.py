"""What the picture of a run shows, and that it is one."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from laconic.errors import RunFolderError
from laconic.records import LayerRecord, RunRecord
from laconic.report import Report, draw, from_json, gather, to_json
from laconic.tasks import Classification, Regression

ERROR = Classification().metric
EPOCHS = [
    {
        "epoch": 1,
        "validation_metric": 4.0,
        "weights_left": {"a.weight": 8, "b.weight": 2},
        "snr_counts": [1, 9],
    },
    {
        "epoch": 2,
        "validation_metric": 3.0,
        "weights_left": {"a.weight": 4, "b.weight": 2},
        "snr_counts": [6, 4],
    },
]
HISTORY = {"snr_bins": [-1.0, 1.0, 1.0], "epochs": EPOCHS}


def record(**metrics: float) -> RunRecord:
    layers = (
        LayerRecord("a.weight", (2, 1, 2, 2), 8, 3, 4, 32, 9),
        LayerRecord("b.weight", (2,), 2, 2, 2, 8, 5),
    )
    numbers = {"original_validation_metric": 2.5, "validation_metric": 3.1, **metrics}
    facts = {"metric": {"name": "error", "unit": "%", "higher_is_better": False}}
    return RunRecord({}, 0, {}, layers, numbers, file_bytes=40, bytes_before=40, facts=facts)


def example(**more: object) -> Report:
    kernels = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    return gather("a net", record(), HISTORY, metric=ERROR, filters=(kernels, -kernels), cut=0.2)


def test_numbers_come_from_the_record_and_the_history() -> None:
    report = example()
    assert report.rows == (("a.weight", 8, 3, 32, 9), ("b.weight", 2, 2, 8, 5))
    assert report.other_bytes == 40 - 9 - 5
    assert report.validation_metric == (2.5, 3.1)
    assert (report.metric, report.unit) == ("error", "%")
    assert report.test_metric is None
    assert report.metric_curve.epochs == (1, 2)
    assert report.metric_curve.values == (4.0, 3.0)
    assert report.left["a.weight"].values == (1.0, 0.5)
    assert report.left["b.weight"].values == (1.0, 1.0)
    assert report.snr == ((1, 9), (6, 4))
    assert report.filters is not None
    assert report.filters[1][0] == ((0.0, -1.0), (-2.0, -3.0))


def test_epochs_are_counted_over_all_stages() -> None:
    rows = [{**EPOCHS[k % 2], "stage": 1 + k // 2} for k in range(4)]
    report = gather("n", record(), {**HISTORY, "epochs": rows}, metric=ERROR)
    assert report.metric_curve.epochs == (1, 2, 3, 4)
    assert report.metric_curve.values == (4.0, 3.0, 4.0, 3.0)
    rows[0] = {**rows[0], "snr_counts": []}  # a stage without posteriors
    assert gather("n", record(), {**HISTORY, "epochs": rows}, metric=ERROR).snr == (
        (0, 0),
        (6, 4),
        (1, 9),
        (6, 4),
    )


def test_the_words_are_the_task_s() -> None:
    r2 = Regression(metric_name="r2").metric
    report = gather("n", record(original_test_metric=0.99, test_metric=0.97), {}, metric=r2)
    assert report.test_metric == (0.99, 0.97)
    assert (report.metric, report.unit, report.higher_is_better) == ("R2", "", True)
    assert report.metric_curve.epochs == ()
    assert report.left == {}


def test_a_tensor_that_an_epoch_does_not_name_has_no_curve() -> None:
    rows = [EPOCHS[0], {**EPOCHS[1], "weights_left": {"a.weight": 4}}]
    assert set(gather("n", record(), {**HISTORY, "epochs": rows}, metric=ERROR).left) == {"a.weight"}


@pytest.mark.parametrize("shape", [(65, 1, 2, 2), (2, 1, 12, 2), (2, 2)])
def test_kernels_that_fit_no_picture_are_left_out(shape: tuple[int, ...]) -> None:
    kernels = np.zeros(shape, np.float32)
    assert gather("n", record(), {}, metric=ERROR, filters=(kernels, kernels)).filters is None


def test_json_and_back() -> None:
    report = example()
    assert from_json(json.loads(json.dumps(to_json(report)))) == report


def test_a_strange_report_is_refused() -> None:
    data = to_json(example())
    del data["rows"]
    with pytest.raises(RunFolderError, match="not a report"):
        from_json(data)


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_the_picture_is_a_png(tmp_path) -> None:
    draw(example(), tmp_path / "a.png")
    assert size_of((tmp_path / "a.png").read_bytes()) == (1495, 936)


def test_a_run_without_history_has_a_picture(tmp_path) -> None:
    draw(gather("n", record(), {}, metric=ERROR), tmp_path / "b.png")
    assert size_of((tmp_path / "b.png").read_bytes()) == (1495, 936)


def test_equal_reports_give_equal_pictures(tmp_path) -> None:
    draw(example(), tmp_path / "a.png")
    draw(example(), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("values", [(4.0, 3.0), (3.1, 3.1), (2.5, 2.5), (0.0, 0.0), (-0.2, 0.9)])
def test_no_label_lies_on_the_curve(values: tuple[float, float], tmp_path) -> None:
    """The original's line and the file's point are told apart in the legend, in the free upper third."""
    from matplotlib.figure import Figure

    from laconic.report.picture import draw_metric

    rows = [{**row, "validation_metric": value} for row, value in zip(EPOCHS, values, strict=True)]
    report = gather("n", record(), {**HISTORY, "epochs": rows}, metric=ERROR)
    ax = Figure().subplots()
    draw_metric(ax, report)
    assert len(ax.texts) == 0
    low, high = ax.get_ylim()
    top = max(*values, 2.5, 3.1)
    assert low <= min(*values, 2.5) and (high - top) >= 0.3 * (high - low)
    legend = ax.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == [
        "trained network",
        "original network",
        "in the file",
    ]
