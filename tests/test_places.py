from pathlib import Path

import platformdirs
import pytest

from qbench import places

PLACES = [
    ("QBENCH_DATA", places.data_root, Path(platformdirs.user_data_dir("qbench")) / "data"),
    ("QBENCH_CACHE", places.cache_root, Path(platformdirs.user_cache_dir("qbench"))),
    ("QBENCH_REGISTRY", places.registry_path, Path("qbench.duckdb")),
]


@pytest.mark.parametrize(("variable", "place", "default"), PLACES)
def test_the_variable_comes_first_and_an_empty_one_is_unset(variable, place, default, monkeypatch, tmp_path):
    monkeypatch.delenv(variable, raising=False)
    assert place() == default
    monkeypatch.setenv(variable, "")
    assert place() == default
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    assert place() == tmp_path / "there"
    assert not place().exists()


@pytest.mark.parametrize(("variable", "place", "default"), PLACES)
def test_a_tilde_is_the_home(variable, place, default, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/someone")
    monkeypatch.setenv(variable, "~/x")
    assert place() == Path("/home/of/someone/x")


def test_places_are_apart(monkeypatch):
    for variable, _, _ in PLACES:
        monkeypatch.delenv(variable, raising=False)
    assert places.data_root() != places.cache_root()
    assert places.data_root().is_absolute()
    assert places.cache_root().is_absolute()
