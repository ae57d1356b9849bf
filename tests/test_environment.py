"""What is recorded of a machine, and what must never be."""

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qbench
from qbench.environment import (
    MAX_ERROR_BYTES,
    VARIABLES,
    clean_traceback,
    environment,
    environment_id,
    variables,
)
from qbench.schema import canonical_json, digest


def test_it_names_the_versions_that_run_here() -> None:
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["packages"]["duckdb"] == metadata.version("duckdb")
    assert found["packages"]["typing-extensions"] == metadata.version("typing_extensions")
    assert found["memory"] > 2**26
    assert found["usable_threads"] >= 1


def test_the_identifier_is_the_hash_of_the_content() -> None:
    found = environment({"kind": "cuda", "name": "Some GPU", "memory": 80 * 2**30})
    assert environment_id(found) == digest(found)[:16]
    assert environment_id(json.loads(canonical_json(found))) == environment_id(found)
    assert environment_id(found) != environment_id(environment({"kind": "cpu"}))


def test_only_allowed_variables_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "/somewhere/private")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "https://user:secret@example.org")
    assert variables() == {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "0,1"}


def test_nothing_private_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package installed from an address with a password records that address in its metadata."""
    info = tmp_path / "private_package-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Private_Package\nVersion: 1.5\n")
    (info / "direct_url.json").write_text('{"url": "https://user:secret@example.org/x.git"}')
    odd = tmp_path / "odd-1.dist-info"
    odd.mkdir()
    (odd / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1 @ file:///home/me\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = environment({"name": f"device {tmp_path}/x"})
    assert found["packages"]["private-package"] == "1.5"
    assert found["device"] == {"name": "device ~/x"}
    text = canonical_json(found)
    for private in ("secret", "example.org", str(tmp_path), "file:", platform.node()):
        assert private not in text


def test_it_imports_no_torch() -> None:
    code = (
        "import sys, qbench.environment; qbench.environment.environment(); assert 'torch' not in sys.modules"
    )
    root = str(Path(qbench.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)


def test_a_short_text_stays_as_it_is() -> None:
    text = 'Traceback (most recent call last):\n  File "/usr/lib/x.py", line 3, in f\nValueError: 3/4 é\n'
    assert clean_traceback(text) == text


def test_a_long_text_keeps_its_end() -> None:
    cleaned = clean_traceback("start\n" + "é" * 100_000 + "\nValueError: the end")
    assert len(cleaned.encode()) <= MAX_ERROR_BYTES
    assert cleaned.endswith("é\nValueError: the end")
    assert "start" not in cleaned


@given(st.text(max_size=50), st.integers(0, 20_000))
def test_any_text_becomes_storable(piece: str, times: int) -> None:
    cleaned = clean_traceback(piece * times)
    assert len(cleaned.encode()) <= MAX_ERROR_BYTES


def test_lone_surrogates_are_replaced() -> None:
    assert clean_traceback("a\udcffb") == "a?b"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ('File "{home}/code/x.py"', 'File "~/code/x.py"'),
        ("{home}", "~"),
        ("{home}stead/x and {home}.txt", "{home}stead/x and {home}.txt"),
        ("/home/somebody/x and /Users/else/y", "~/x and ~/y"),
        ("/srv/home/x", "/srv/home/x"),
        ("https://user:pass@example.org/simple", "https://example.org/simple"),
        ("git+ssh://token@example.org:22/r", "git+ssh://example.org:22/r"),
        ("https://example.org/f?sig=abc&x=1 next", "https://example.org/f?[...] next"),
        ("mail me@example.org about a://b", "mail me@example.org about a://b"),
        ("token hf_" + "a" * 34 + " refused", "token [token] refused"),
    ],
)
def test_private_parts_are_removed(
    text: str, cleaned: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert clean_traceback(text.format(home=tmp_path)) == cleaned.format(home=tmp_path)


@pytest.mark.parametrize("home", ["/", ""])
def test_a_home_that_is_the_root_is_no_reason_to_replace_every_slash(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home)
    text = f"/usr/lib/x.py: {Path.cwd()}/y ends. So."
    assert clean_traceback(text) == text


def test_credentials_do_not_survive_at_the_cut() -> None:
    secret = "https://user:" + "s" * 3 * MAX_ERROR_BYTES + "@example.org/x"
    assert "ssss" not in clean_traceback(secret)
