"""A small picture of a batch's lengths, for notebooks."""

from __future__ import annotations

from html import escape

import numpy as np

from packseq.rows.plan import Plan

# However large the batch: so many bars, each of the mean of its share of the sequences.
_MOST_BARS = 64
# Left of and below the bars are numbers and words.
_LEFT, _WIDTH, _HEIGHT, _BELOW = 48, 320, 80, 18


def as_html(plan: Plan, text: str) -> str:
    """`text`, and an SVG of the lengths, longest first, before the padding they would need.

    What is not a bar has the colour of the text around it, which a notebook's theme decides.
    """
    B, T, N = plan.batch_size, plan.max_length, plan.rows
    if not N:
        return f"<div>{escape(text)}</div>"
    waste = 1 - N / (B * T)
    return (
        f"<div>{escape(text)}<br>"
        f'<svg width="{_LEFT + _WIDTH}" height="{_HEIGHT + _BELOW}" role="img" '
        'fill="currentColor" font-size="11">'
        f"<title>Lengths, longest first; pale is padding, {waste:.1%}</title>"
        f'<g transform="translate({_LEFT})"><rect width="{_WIDTH}" height="{_HEIGHT}" '
        f'opacity=".15"/><path d="{_bars(plan)}" fill="#3a8fd0"/></g>'
        f"{_words(B, T)}</svg><br>{waste:.1%} of {B * T:,} padded steps would be padding</div>"
    )


def _bars(plan: Plan) -> str:
    """The outline of one bar for each share of the sequences."""
    bars = min(plan.batch_size, _MOST_BARS)
    starts = np.arange(bars) * plan.batch_size // bars
    counts = np.diff([*starts.tolist(), plan.batch_size])
    means = np.add.reduceat(plan.sorted_lengths, starts) / counts
    width = _WIDTH / bars
    return "".join(
        f"M{k * width:.4g} {_HEIGHT}v{-height:.4g}h{width:.4g}v{height:.4g}z"
        for k, height in enumerate((means * (_HEIGHT / plan.max_length)).tolist())
    )


def _words(B: int, T: int) -> str:
    """What the axes count, and how far."""
    return "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{word}</text>'
        for x, y, anchor, word in (
            (_LEFT - 4, 10, "end", f"{T:,}"),
            (_LEFT - 4, _HEIGHT // 2 + 4, "end", "steps"),
            (_LEFT - 4, _HEIGHT, "end", "0"),
            (_LEFT + _WIDTH // 2, _HEIGHT + 14, "middle", f"{B:,} sequences, longest first"),
        )
    )
