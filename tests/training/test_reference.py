"""A run beside the curves of earlier ones, and the two networks of an ELECTRA beside each other."""

import csv
import logging

import pytest

from keras_pretrain.training.balance import BalanceWatch
from keras_pretrain.training.curves import draw_training_curves
from keras_pretrain.training.reference import ReferenceWatch, read_reference, write_reference


def write_history(path, **columns):
    names = ["epoch", *columns]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerows(enumerate_rows(columns))
    return path


def enumerate_rows(columns):
    return [(epoch, *row) for epoch, row in enumerate(zip(*columns.values(), strict=True))]


@pytest.fixture
def reference(tmp_path):
    """Two seeds: their validation losses are 0.2 apart, so that the standard deviation is 0.1414."""
    files = [
        write_history(
            tmp_path / f"history{seed}.csv",
            step=[10, 20, 30],
            loss=[8, 7, 6],
            val_loss=[8 + 0.2 * seed, "NA", 6 + 0.2 * seed],
            tokens_per_second=[1, 2, 3],
        )
        for seed in (0, 1)
    ]
    write_reference(files, tmp_path / "quick.csv")
    return read_reference(tmp_path / "quick.csv")


def test_mean_and_spread_of_the_seeds(reference, tmp_path):
    assert reference.name == "quick"
    assert reference.curves["val_loss"] == [(10, 8.1), (30, 6.1)]
    assert reference.spreads == {"val_loss": pytest.approx(0.1414, abs=1e-3)}
    assert "tokens_per_second" not in reference.curves  # depends on the machine
    header, first, second, _ = (tmp_path / "quick.csv").read_text().splitlines()
    assert (header, first) == ("step,loss,val_loss,val_loss_spread", "10,8,8.1,0.141")
    assert second == "20,7,NA,NA"


def test_there_are_values_only_where_the_runs_were_validated(reference):
    assert reference.at("val_loss", 30) == 6.1
    assert reference.at("val_loss", 20) is None
    assert reference.at("accuracy", 20) is None


def test_one_run_has_no_spread_and_so_no_warning(tmp_path, package_log):
    history = write_history(tmp_path / "history.csv", step=[10], val_loss=[8])
    write_reference([history], tmp_path / "one.csv")
    assert read_reference(tmp_path / "one.csv").spreads == {}
    follow(ReferenceWatch(read_reference(tmp_path / "one.csv")), [{"val_loss": 99.0}])
    assert not package_log.records


@pytest.mark.parametrize(
    "other",
    [
        {"step": [10, 30], "val_loss": ["NA", 1]},
        {"step": [10, 20], "val_loss": ["NA", 1], "loss": [2, 1]},
        {"step": [10, 20], "val_loss": [1, "NA"]},
    ],
)
def test_runs_of_different_recipes_are_refused(tmp_path, other):
    first = write_history(tmp_path / "a.csv", step=[10, 20], val_loss=["NA", 1])
    second = write_history(tmp_path / "b.csv", **other)
    with pytest.raises(ValueError, match=r"b\.csv.*a\.csv.*one recipe"):
        write_reference([first, second], tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").exists()
    with pytest.raises(ValueError, match=r"histories.*at least one"):
        write_reference([], tmp_path / "c.csv")


def follow(callback, epochs, steps=10):
    callback.set_params({"steps": steps})
    for epoch, logs in enumerate(epochs):
        callback.on_epoch_end(epoch, logs)


def test_a_loss_outside_three_spreads_is_reported_when_it_stays_there(reference, package_log):
    """The bounds are 8.1 ± 0.42 at step 10 and 6.1 ± 0.42 at step 30; there is none at step 20."""
    for inside in ([7.7, 99.0, 6.5], [8.5, None, 5.7], [99.0, None, 6.1], [8.1, None, 99.0]):
        follow(ReferenceWatch(reference), [{"loss": 99.0} | ({"val_loss": each} if each else {}) for each in inside])
    assert not package_log.records
    for outside in ([8.6, None, 6.6], [7.6, None, 5.6]):
        package_log.clear()
        watch = ReferenceWatch(reference)
        follow(watch, [{"val_loss": each} if each else {} for each in outside])
        (record,) = package_log.records
        assert record.levelno == logging.WARNING
        expected = ("val_loss", f"{outside[2]:.3f}", "step 30", "quick", "6.100", "0.141")
        assert all(part in record.message for part in expected)
        follow(watch, [{"val_loss": 8.6}])  # reported once
        assert len(package_log.records) == 1


def test_the_reference_is_drawn_behind_the_run_as_far_as_the_run_went(reference, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot

    def recorded(axes, x, y, **style):
        drawn.append((style["label"], x, y))
        return plot(axes, x, y, **style)

    monkeypatch.setattr(Axes, "plot", recorded)
    own = write_history(tmp_path / "own.csv", step=[10, 20], loss=[8, 7], val_loss=[8.5, 7.5])
    draw_training_curves(own, tmp_path / "beside.png", reference=reference)
    assert drawn == [
        ("loss, quick", (10, 20), (8, 7)),
        ("loss", (10, 20), (8, 7)),
        ("val_loss, quick", (10,), (8.1,)),
        ("val_loss", (10, 20), (8.5, 7.5)),
    ]
    assert (tmp_path / "beside.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("logs", "metric", "remedy"),
    [
        ({"val_sampled_original": 0.8, "val_disc_auc": 0.9}, "val_sampled_original is 0.80", "mask_prob"),
        ({"val_sampled_original": 0.1, "val_disc_auc": 0.51}, "val_disc_auc is 0.51", "learning_rate"),
    ],
)
def test_networks_out_of_balance_are_reported_once(package_log, logs, metric, remedy):
    watch = BalanceWatch(40)
    follow(watch, [logs])  # in the first half, nothing has been learned yet
    assert not package_log.records
    follow(watch, [{}, {}, logs, logs])
    (record,) = package_log.records
    assert metric in record.message
    assert remedy in record.message


def test_networks_in_balance_are_not_reported(package_log):
    follow(BalanceWatch(20), [{}, {}, {"val_sampled_original": 0.4, "val_disc_auc": 0.8}, {"loss": 1.0}])
    assert not package_log.records
