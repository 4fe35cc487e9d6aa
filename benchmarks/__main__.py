"""`python -m benchmarks [NAME [options]]`: make one measurement, or list them."""

import json
import sys
from importlib import import_module

NAMES = {
    "ingest_bulk": ("benchmarks.ingest", "Parquet files into the table, against polars writing the same rows sorted"),
    "ingest_increment": ("benchmarks.ingest", "10,000 rows into tables of 1, 10 and 100 million: independent of size?"),
    "m4_hourly": ("benchmarks.m4_hourly", "official sMAPE, MASE, OWA on the M4 competition's hourly series"),
    "intervals": ("benchmarks.intervals", "95 % intervals and quantiles on M4 Hourly and ETTh1"),
    "training": ("benchmarks.training", "cutoffs learned from per second: ours, a bare loop, the peers"),
    "backtest": (
        "benchmarks.backtest",
        "500 cutoffs on each series of M4 Hourly: one pass, windows encoded anew, darts",
    ),
    "gpu": ("benchmarks.gpu", "`training` on a GPU: against raw nn.LSTM, host synchronisations, the roofline"),
    "ltsf": ("benchmarks.ltsf", "ETTh1 and ETTm1 at horizons of 96 to 720 steps, by the protocol of the field"),
    "overhead": ("benchmarks.overhead", "where the time of a training step and of a batch forecast goes"),
    "defaults": ("benchmarks.defaults", "the untouched default pipeline on every regular public set"),
    "memory": ("benchmarks.memory", "peak memory from the table to a trained network, 10 and 100 million observations"),
    "forecast": ("benchmarks.forecast", "100,000 series from Parquet to Parquet: the bare network's share of the time"),
    "pipeline": ("benchmarks.pipeline", "the demonstration by phase, and what commands take that train nothing"),
    "kafka": ("benchmarks.kafka", "messages per second from a broker on loopback into the table"),
    "update": ("benchmarks.update", "one new observation and a fresh forecast of N series, against a bare step"),
}


def main(given: list[str]) -> int:
    """Run the measurement that the first argument names; `--json` prints its figures as JSON, alone."""
    if not given or given[0] not in NAMES:
        for name, (_, text) in NAMES.items():
            print(f"{name:18}{text}")
        print("\npython -m benchmarks NAME --help shows its options")
        return 0 if not given or given[0] in ("-h", "--help") else 2
    name, rest = given[0], given[1:]
    module = import_module(NAMES[name][0])
    as_json = "--json" in rest
    done = getattr(module, name)([each for each in rest if each != "--json"])
    if as_json:
        print(json.dumps(done, indent=2))
    else:
        for line in lines(done):
            print(line)
    return 0


def lines(figures: dict[str, object], indent: int = 0) -> list[str]:
    """Figures, nested as they are, one to a line."""
    out = []
    for key, item in figures.items():
        if isinstance(item, dict):
            out += [f"{'':{indent}}{key}", *lines(item, indent + 2)]
        else:
            said = f"{item:,}" if isinstance(item, int | float) else str(item)
            out.append(f"{'':{indent}}{key:<{30 - indent}} {said}")
    return out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
