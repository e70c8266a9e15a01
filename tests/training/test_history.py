"""The table and the picture of a run, also of one that was stopped and taken up."""

import csv

import numpy as np
import pytest
import tensorflow as tf

import keras_pretrain as kp
from keras_pretrain.training.curves import draw_training_curves, panels_of


def fit(path, *, epochs, initial_epoch=0, interrupt=None, validation=False):
    """Plain Keras; `interrupt` is a step of the last epoch."""

    class Interrupt(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == interrupt:
                raise KeyboardInterrupt

    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    data = np.ones((6, 2)), np.ones(6)
    callbacks = [kp.callbacks.RunFigures(), kp.callbacks.CSVHistory(path)] + [Interrupt()] * (interrupt is not None)
    options = {"validation_data": data, "validation_freq": 2} if validation else {}
    try:
        model.fit(
            *data, batch_size=2, epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=callbacks, **options
        )
    except KeyboardInterrupt:
        assert interrupt is not None


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_epoch_with_its_steps(tmp_path):
    path = tmp_path / "run" / "history.csv"
    fit(path, epochs=3)
    rows = rows_of(path)
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "3"), ("1", "6"), ("2", "9")]
    assert float(rows[0]["loss"]) > float(rows[2]["loss"]) > 0
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.01)


def test_a_run_that_is_taken_up_repeats_no_row_and_loses_none(tmp_path):
    path = tmp_path / "history.csv"
    fit(path, epochs=3)
    before = path.read_text().splitlines()
    fit(path, epochs=4, initial_epoch=2)  # from a checkpoint before the third epoch's end
    after = path.read_text().splitlines()
    assert after[:3] == before[:3]
    assert [row["epoch"] for row in rows_of(path)] == ["0", "1", "2", "3"]


def test_a_finished_run_keeps_its_rows_and_a_new_one_begins_anew(tmp_path):
    path = tmp_path / "history.csv"
    fit(path, epochs=3)
    before = path.read_text()
    fit(path, epochs=3, initial_epoch=3)
    assert path.read_text() == before
    fit(path, epochs=1)
    assert len(rows_of(path)) == 1


def test_a_table_of_others_is_not_replaced(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss\n0,1.0\n")
    with pytest.raises(FileExistsError, match=r"history\.csv .*overwrite=True"):
        fit(path, epochs=1)
    assert path.read_text() == "epoch,loss\n0,1.0\n"


def test_a_table_that_was_edited_is_not_replaced(tmp_path):
    path = tmp_path / "history.csv"
    fit(path, epochs=3)
    edited = path.read_text() + "my note\n"
    path.write_text(edited)
    with pytest.raises(FileExistsError, match=r"history\.csv .*overwrite=True"):
        fit(path, epochs=4, initial_epoch=3)
    assert path.read_text() == edited


def test_columns_stay_where_they_are_where_not_every_epoch_is_validated(tmp_path):
    path = tmp_path / "history.csv"
    fit(path, epochs=2, validation=True)
    fit(path, epochs=4, initial_epoch=1, validation=True)
    rows = rows_of(path)
    assert [row["val_loss"] == "NA" for row in rows] == [True, False, True, False]
    assert all(float(row["learning_rate"]) == pytest.approx(0.01) for row in rows)


def test_an_interrupt_in_the_first_epoch_leaves_no_row(tmp_path):
    path = tmp_path / "history.csv"
    fit(path, epochs=2, interrupt=1)
    fit(path, epochs=1)
    assert len(rows_of(path)) == 1


ROWS = """epoch,disc_loss,learning_rate,loss,mlm_loss,replaced_accuracy,step,val_loss,waiting
0,0.5,0.1,35.0,9.0,0.1,10,NA,0.0
1,0.4,0.2,28.0,8.0,0.2,20,29.0,0.0
"""


def test_the_picture_is_drawn_without_a_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    (tmp_path / "history.csv").write_text(ROWS)
    draw_training_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    image = tf.io.decode_png((tmp_path / "curves.png").read_bytes()).numpy()
    height, width, _ = image.shape
    assert width == 9 * 120
    assert (
        height == 5 * 2.5 * 120
    )  # a panel for each of the three losses, one for accuracies, one for the learning rate
    assert 0.5 < (image[..., :3] == 255).all(axis=-1).mean() < 0.99  # neither empty nor black


def test_what_stands_in_which_panel():
    columns = {
        "disc_loss": [0.5, 0.4], "learning_rate": [0.1, 0.2], "loss": [35.0, 28.0], "mlm_loss": [9.0, 8.0],
        "val_loss": [None, 29.0], "val_mlm_loss": [None, None], "disc_auc": [0.5, 0.6], "waiting": [0.0, 0.0],
    }  # fmt: skip
    assert list(panels_of(columns).items()) == [
        ("loss", ["loss", "val_loss"]),
        ("disc_loss", ["disc_loss"]),
        ("mlm_loss", ["mlm_loss"]),  # an evaluation that never came has no curve
        ("accuracy", ["disc_auc"]),
        ("learning rate", ["learning_rate"]),
    ]


def test_a_table_without_steps_is_refused(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n0,1.0\n")
    with pytest.raises(ValueError, match=r"history\.csv .*'step'.*CSVHistory"):
        draw_training_curves(tmp_path / "history.csv", tmp_path / "curves.png")


def test_the_picture_comes_at_the_end_of_fit(tmp_path):
    (tmp_path / "history.csv").write_text(ROWS)
    curves = kp.callbacks.TrainingCurves(tmp_path / "history.csv", tmp_path / "curves.png")
    curves.on_train_begin()
    curves.on_train_end()
    drawn = (tmp_path / "curves.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    (tmp_path / "curves.png").write_bytes(drawn + b"mine")
    with pytest.raises(FileExistsError, match=r"curves\.png .*overwrite=True"):
        curves.on_train_begin()
