"""A small picture of a batch's lengths, for notebooks."""

from __future__ import annotations

from html import escape

import numpy as np

from packseq.rows.plan import Plan

# However large the batch: so many bars, each of the mean of its share of the sequences.
_MOST_BARS = 64
_WIDTH, _HEIGHT = 320, 80


def as_html(plan: Plan, text: str) -> str:
    """`text`, and an SVG of the lengths, longest first, before the padding they would need."""
    B, T, N = plan.batch_size, plan.max_length, plan.rows
    if not N:
        return f"<div>{escape(text)}</div>"
    waste = 1 - N / (B * T)
    bars = min(B, _MOST_BARS)
    starts = np.arange(bars) * B // bars
    counts = np.diff([*starts.tolist(), B])
    heights = np.add.reduceat(plan.sorted_lengths, starts) / counts * (_HEIGHT / T)
    width = _WIDTH / bars
    path = "".join(
        f"M{k * width:.4g} {_HEIGHT}v{-height:.4g}h{width:.4g}v{height:.4g}z"
        for k, height in enumerate(heights.tolist())
    )
    return (
        f"<div>{escape(text)}<br>"
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">'
        f"<title>Lengths, longest first; grey is padding, {waste:.1%}</title>"
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ddd"/><path d="{path}" fill="#1f77b4"/>'
        f"</svg><br>{waste:.1%} of {B * T:,} padded steps would be padding</div>"
    )
