"""Taking over published results: 50,000 rows into an empty registry, and again into one that has them."""

from pathlib import Path
from typing import Any

import pytest

from qbench.registry import Merged, Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1] / "leaderboard"))
    from synthetic import add

ROWS = 50_000


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    made = add(folder / "source.duckdb", quantizers=125, bits=range(1, 9), models=5, datasets=5, seeds=2)
    assert Registry(folder / "source.duckdb").export(folder / "results.parquet") == made == ROWS
    return folder / "results.parquet"


@pytest.mark.benchmark(group=f"merge of {ROWS:,} results")
def test_into_an_empty_registry(benchmark: Any, exported: Path, tmp_path: Path) -> None:
    numbers = iter(range(100))

    def fresh() -> tuple[tuple[Registry], dict[str, object]]:
        return (Registry(tmp_path / f"{next(numbers)}.duckdb"),), {}

    merged = benchmark.pedantic(lambda registry: registry.merge(exported), setup=fresh, rounds=3)
    assert merged == Merged(added=ROWS)


@pytest.mark.benchmark(group=f"merge of {ROWS:,} results")
def test_into_one_that_has_them(benchmark: Any, exported: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "target.duckdb")
    registry.merge(exported)
    merged = benchmark.pedantic(registry.merge, args=(exported,), rounds=3)
    assert merged == Merged(present=ROWS)
