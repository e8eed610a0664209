"""Small valid files of every format, their bytes changed: read, or a CheckpointError.

Bounded and repeatable: the same few hundred files at every run. `make fuzz` has no such bound.
"""

import pytest
from files import FORMATS, check_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@st.composite
def changes(draw):
    """Where, as a share of the file, and what is written there; and how much is kept."""
    place = st.floats(0, 1, exclude_max=True)
    pieces = st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from([b"\xff" * 8, b"\xff" * 4, b"\0" * 8, b"\x7f", b"..", b"/", b"\x80"]),
    )
    edits = draw(st.lists(st.tuples(place, pieces), min_size=1, max_size=4))
    kept = draw(st.one_of(st.just(1.0), place))
    return edits, kept


def apply(content, edits, kept):
    raw = bytearray(content)
    for place, piece in edits:
        start = int(place * len(raw))
        raw[start : start + len(piece)] = piece
    return bytes(raw[: int(kept * len(raw))])


@pytest.mark.parametrize("name", FORMATS)
def test_changed_bytes_are_read_or_refused(name, tmp_path):
    content = FORMATS[name]()
    path = tmp_path / "file"
    path.write_bytes(content)
    assert check_file(path) == 1, "the file that is changed must be a good one"

    @settings(
        max_examples=200,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changes())
    def run(change):
        path.write_bytes(apply(content, *change))
        check_file(path)

    run()
