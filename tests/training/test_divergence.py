"""Losses as runs have them, with and without an end in disaster."""

import re

import numpy as np
import pytest

from keras_pretrain.training.divergence import LossWatch


def follow(losses, watch=None, epoch=50, at_once=1):
    """The step at which the watch gives the alarm, and what it says; Keras' means are made as Keras makes them."""
    watch = watch or LossWatch()
    losses = np.asarray(losses, np.float64)
    for step in range(at_once - 1, len(losses), at_once):
        first = step - step % epoch
        wrong = watch.see(step % epoch, float(np.float32(losses[first : step + 1].mean())))
        if wrong:
            return step, wrong
    return None


def falling(start, end, steps=600, noise=0.1, seed=0):
    """A curve that falls quickly at first, with a warm-up before."""
    done = np.maximum(0, np.arange(steps) - 60) / 100
    return end + (start - end) * np.exp(-done) + np.random.default_rng(seed).normal(0, noise, steps)


def spiked(losses, height, every=40):
    losses = losses.copy()
    losses[70::every] = height
    return losses


@pytest.mark.parametrize(
    "losses",
    [
        falling(10.1, 3.0),
        falling(7.3, 6.9),  # a run that learns next to nothing
        falling(45.0, 14.0, noise=1.0),  # ELECTRA
        falling(45.0, 14.0, noise=0.3) + np.linspace(0, 5, 600),  # its discriminator's task gets harder
        np.concatenate([np.linspace(10, 13, 50), falling(13, 4)]),  # a rise in the warm-up
        spiked(falling(10.1, 3.0), 1e6),  # outliers
        falling(2.7, 0.01, noise=0) * np.random.default_rng(0).lognormal(0, 1.5, 600),  # learned by heart
        np.full(100, 2.0),
    ],
)
@pytest.mark.parametrize("at_once", [1, 5])
def test_no_false_alarm(losses, at_once):
    assert follow(np.maximum(losses, 1e-4), at_once=at_once) is None


def test_an_explosion_is_found_within_the_window():
    losses = falling(10.1, 3.0)
    losses[500:] += np.arange(100) ** 2
    step, wrong = follow(losses)
    assert 500 < step <= 532
    assert re.search("loss has exploded.*, was 3", wrong)


def test_a_fall_back_to_the_start_is_found():
    """A diverged BERT knows the tokens' frequencies again, and nothing else."""
    losses = falling(7.3, 3.0)
    losses[500:] = 7.3
    assert follow(losses)[0] == pytest.approx(516, abs=2)


def test_a_rise_beyond_the_start_is_found_early():
    losses = np.full(200, 10.0)
    losses[60:] = 16.0
    assert follow(losses)[0] == pytest.approx(76, abs=2)


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_no_number_is_found_at_once(loss):
    losses = falling(10.1, 3.0)
    losses[5] = loss
    assert follow(losses) == (5, f"The loss is {loss}")


def test_a_rise_is_suspicious_before_it_is_an_explosion():
    losses, watch = np.full(60, 2.0), LossWatch()
    assert not watch.is_suspicious
    follow(losses, watch)
    assert not watch.is_suspicious
    watch.see(0, 9.0)
    assert watch.is_suspicious


def test_a_watch_that_is_taken_up_goes_on_in_the_middle_of_an_epoch():
    losses = falling(7.3, 3.0)
    losses[500:] = 7.3
    watch, again = LossWatch(), LossWatch()
    means = [float(np.mean(losses[step - step % 50 : step + 1])) for step in range(600)]
    for step in range(510):
        assert watch.see(step % 50, means[step]) is None
    again.restore(watch.state())
    answers = [(watch.see(step % 50, means[step]), again.see(step % 50, means[step])) for step in range(510, 530)]
    assert all(one == other for one, other in answers)
    assert answers[-1][0]
