"""Draws a histogram of the examples' lengths."""

import os


def draw_lengths(picture: str | os.PathLike[str], lengths: dict[str, list[int]]) -> None:
    """Save a PNG with a histogram for each split; `lengths[split][n]` is the number of examples of `n` tokens."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # needs no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.5 * len(lengths)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(lengths), sharex=True, squeeze=False)[:, 0]
    for axes, (split, counts) in zip(rows, lengths.items(), strict=True):
        axes.bar(range(len(counts)), counts, width=1.0)
        axes.set_ylabel(f"{split} examples")
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("tokens, special ones included")
    figure.savefig(picture, format="png", dpi=120)
