"""From records to tables: seconds with thousands of records, and how they grow."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.many_records import write_records
from tests.benchmarks.measure import FULL

SIZES = (1_000, 10_000, 100_000) if FULL else (100, 200)
READ = """
import time
start = time.perf_counter()
from analysis.evidence.evidence import published_evidence
from analysis.tables.table import build
from repro.harness.experiments.experiment import experiment_ids
imported = time.perf_counter()
evidence = published_evidence("laptop")
read = time.perf_counter()
for name in experiment_ids():
    build(evidence.experiment(name), evidence)
built = time.perf_counter()
assert len(evidence.records) == {number}
print(imported - start, read - imported, built - read)
"""


def all_tables(results: Path, number: int, cache: Path) -> tuple[float, float, float]:
    """Seconds to import, to read the records and to build all tables, in a process of its own."""
    environment = {
        "REPRO_RESULTS": str(results),
        "XDG_CACHE_HOME": str(cache),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [sys.executable, "-c", READ.format(number=number)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    imports, read, build = map(float, done.stdout.split())
    return imports, read, build


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where composed configs are kept, empty at first."""
    return tmp_path_factory.mktemp("cache")


def test_frame_and_all_tables(benchmark: BenchmarkFixture, tmp_path: Path, cache: Path) -> None:
    seconds = {}
    all_tables_cold = 0.0
    for number in SIZES:
        results = tmp_path / str(number)
        write_records(results, number)
        if not seconds:
            start = time.perf_counter()
            all_tables(results, number, cache)
            all_tables_cold = time.perf_counter() - start
        rounds = [all_tables(results, number, cache) for _ in range(2 if FULL else 1)]
        seconds[number] = min(rounds, key=sum)
    total = {number: sum(parts) for number, parts in seconds.items()}
    work = {number: read + build for number, (_, read, build) in seconds.items()}
    slope = float(np.polyfit(np.log(SIZES), np.log([work[n] for n in SIZES]), 1)[0])
    benchmark.extra_info.update(
        title="all tables against number of records",
        axis="number of records",
        at=list(SIZES),
        growth=[work[n] for n in SIZES],
        slope=slope,
        starting=seconds[SIZES[0]][0],
        first_time=all_tables_cold,
    )
    assert total  # times are recorded, not judged
    benchmark.pedantic(lambda: None, rounds=1)


@pytest.mark.parametrize("number", SIZES[1:2])
def test_all_tables_from_many_records(
    benchmark: BenchmarkFixture, number: int, tmp_path: Path, cache: Path
) -> None:
    write_records(tmp_path, number)
    all_tables(tmp_path, number, cache)
    parts = all_tables(tmp_path, number, cache)
    benchmark.extra_info.update(
        title=f"frame and all tables, {number:,} records",
        seconds={"ours": sum(parts), "limit": parts[0]},
        limit="starting Python and its libraries",
        reading=parts[1],  # with all that is checked before a record is believed
        of_limit=parts[0] / sum(parts),
    )
    benchmark.pedantic(lambda: None, rounds=1)
