"""What the tests of engines share: ``make test-engines`` runs them, by hand."""

import os

# Ray reads it when it is imported: the cluster of the tests listens on the loopback address.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import numpy as np
import pyarrow.parquet as pq
import pytest
from tables import gru, sequences_of, table_of

import packseq

LENGTHS = np.random.default_rng(0).integers(0, 9, 60).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    packseq.save(gru(), path)
    return str(path)


@pytest.fixture(scope="module")
def table():
    return table_of(sequences_of(LENGTHS))


@pytest.fixture(scope="module")
def source(tmp_path_factory, table):
    """Two files of six row groups together."""
    folder = tmp_path_factory.mktemp("in")
    pq.write_table(table.slice(0, 25), folder / "a.parquet", row_group_size=10)
    pq.write_table(table.slice(25), folder / "b.parquet", row_group_size=15)
    return str(folder)


@pytest.fixture(scope="module")
def expected(model, table):
    """The predictor's own prediction of each row, by its id."""
    return by_id(packseq.Predictor(model, "x")(table))


def by_id(table):
    """A prediction as bytes for each id, none of which comes twice."""
    rows = zip(table["id"].to_pylist(), table["prediction"].to_pylist(), strict=True)
    found = [(number, np.array(row, np.float32).tobytes()) for number, row in rows]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.fixture(scope="module")
def same(expected):
    """Check that a table has each row once, with the bits of the predictor alone."""

    def check(table):
        assert by_id(table) == expected

    return check
