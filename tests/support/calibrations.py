"""What a machine was measured to take, for forecasts."""

from pipelines.forecast.estimate import Calibration

MEASURED = Calibration(
    imports=4.0,
    wiring=2.0,
    rounds=(1e-4, 2e-4),
    begin_writing=0.5,
    write=3e-4,
    shard_row_bytes=40.0,
    base_bytes=10**9,
    batch_bytes=10**7,
    rows_analyzed=100,
    rows_written=100,
    sum_bytes=50_000,
    seconds=1.0,
)
