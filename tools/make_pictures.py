"""Draw the pictures of the docs, by matplotlib: python tools/make_pictures.py."""

from pathlib import Path

import matplotlib

import packseq

DOCS = Path(__file__).parents[1] / "docs"


def main():
    matplotlib.use("Agg")
    ax = packseq.plot_packing([4, 6, 8, 5, 4, 3, 7, 8])
    ax.figure.savefig(DOCS / "packing.png", dpi=110)


if __name__ == "__main__":
    main()
