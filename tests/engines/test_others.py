"""The recipes of docs/scale.md for Spark and Daft, and polars and DuckDB without an engine."""

import os
import sys

import numpy as np
import pyarrow as pa
import pytest

import packseq

pytestmark = pytest.mark.filterwarnings("ignore")


def test_spark(model, source, same, monkeypatch):
    sql = pytest.importorskip("pyspark.sql", reason="the engine")
    monkeypatch.setitem(os.environ, "PYSPARK_PYTHON", sys.executable)
    spark = (
        sql.SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.executorEnv.OMP_NUM_THREADS", "1")
        .getOrCreate()
    )
    try:
        predictor = packseq.Predictor(model, "x", num_threads=1)

        schema = pa.schema([("id", pa.int64()), ("prediction", pa.list_(pa.float32()))])

        def predict(batches):
            for batch in batches:
                yield from predictor(batch).cast(schema).to_batches()

        rows = spark.read.parquet(source).mapInArrow(predict, "id long, prediction array<float>")
        same(pa.table(rows.toArrow()))
    finally:
        spark.stop()


def test_daft(model, source, same):
    daft = pytest.importorskip("daft", reason="the engine")
    predictor = packseq.Predictor(model, "x", num_threads=1)

    @daft.func.batch(return_dtype=daft.DataType.list(daft.DataType.float32()))
    def predict(x):
        return predictor(pa.table({"x": x.to_arrow()}))["prediction"].combine_chunks()

    frame = daft.read_parquet(f"{source}/*.parquet")
    rows = frame.select(daft.col("id"), predict(daft.col("x")).alias("prediction"))
    same(rows.to_arrow())


def test_polars(model, source, same):
    pl = pytest.importorskip("polars", reason="the engine")
    predictor = packseq.Predictor(model, "x")
    same(pl.from_arrow(predictor(pl.read_parquet(f"{source}/*.parquet"))).to_arrow())


def test_duckdb(model, source, same):
    duckdb = pytest.importorskip("duckdb", reason="the engine")
    predictor = packseq.Predictor(model, "x")
    reader = duckdb.sql(f"select * from '{source}/*.parquet'").to_arrow_reader(16)
    same(pa.concat_tables([predictor(batch) for batch in reader]))


def test_ids_in_are_ids_out(model, source, expected):
    assert sorted(expected) == np.arange(60).tolist()
