"""How to cite: what is named is what is there, and every format says the same."""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import qbench
from qbench import citation
from qbench.citation import Method, Work
from qbench.environment import environment_id
from qbench.errors import RegistryError, SuiteError
from qbench.registry import Registry, RunCell
from qbench.schema import Cell, Measurement, Result, Spec

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"python": "3.11"}
HOSTILE = 'a" }% \\end{document}\n<b>|`\u202e--_&#'


def cell(bits: int, seed: int = 0) -> Cell:
    return Cell(
        track="rate-distortion",
        track_version=1,
        target="source",
        quantizer=Spec(name="uniform", parameters={"bits": bits}),
        dataset=Spec(name="gaussian"),
        seed=seed,
    )


def add(
    held: Registry,
    cells: list[Cell],
    suite: str = "standard",
    digest: str = "d" * 64,
    day: int = 2,
    status: str = "ok",
    attempt: int = 1,
    device_kind: str = "cpu",
) -> list[str]:
    """A run of these cells, all ending alike; its result_ids."""
    run_id = held.begin_run(suite, ENVIRONMENT, [RunCell(one.cell_id, one.track, digest) for one in cells])
    results = [
        Result(
            cell=one,
            attempt=attempt,
            fingerprint="f" * 16,
            device_kind=device_kind,
            device=device_kind,
            environment_id=environment_id(ENVIRONMENT),
            run_id=run_id,
            status=status,
            error=None if status == "ok" else "no",
            measurements={"rate": Measurement(value=2.0, unit="bit")},
            started=datetime(2026, 1, day, tzinfo=UTC),
            seconds=1.0,
        )
        for one in cells
    ]
    assert held.write(results)
    held.finish_run(run_id)
    return [result.result_id for result in results]


@pytest.fixture
def held(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "r.duckdb")


def test_the_results_are_named_exactly(held: Registry) -> None:
    ids = add(held, [cell(2), cell(3)], day=2) + add(held, [cell(4)], day=5)
    found = citation.numbers(held)
    assert found.ids == tuple(sorted(ids))
    assert found.sha256 == hashlib.sha256("".join(f"{one}\n" for one in sorted(ids)).encode()).hexdigest()
    assert (str(found.first), str(found.last)) == ("2026-01-02", "2026-01-05")
    assert found.digests == (("rate-distortion", "d" * 64),)
    assert found.suites == ("standard",)
    assert found.versions == (qbench.__version__,)
    assert found.which.startswith(
        f"3 results of 2026-01-02 to 2026-01-05; digests: rate-distortion {'d' * 12};"
    )


def test_the_same_results_have_the_same_hash_whoever_merged_them(held: Registry, tmp_path: Path) -> None:
    add(held, [cell(2), cell(3)])
    other = Registry(tmp_path / "other.duckdb")
    assert other.merge(held.path).added == 2
    assert citation.numbers(other) == citation.numbers(held)


def test_only_newest_attempts_that_ended_well_count(held: Registry) -> None:
    (first,) = add(held, [cell(2)], day=2)
    (again,) = add(held, [cell(2)], day=3, attempt=2)
    add(held, [cell(3)], day=2)
    add(held, [cell(3)], day=3, attempt=2, status="impossible")
    (other,) = add(held, [cell(2)], day=1, device_kind="cuda")
    assert first != again
    assert set(citation.numbers(held).ids) == {again, other}


def test_of_two_digests_each_has_its_newest(held: Registry) -> None:
    (old,) = add(held, [cell(2)], digest="a" * 64, day=2)
    (new,) = add(held, [cell(2)], digest="b" * 64, day=3, attempt=2)
    assert set(citation.numbers(held).ids) == {old, new}
    assert citation.numbers(held, [f"digest={'a' * 12}"]).ids == (old,)
    assert [digest[0] for _, digest in citation.numbers(held).digests] == ["a", "b"]


def test_a_selection_of_nothing_says_so(held: Registry) -> None:
    add(held, [cell(2)], status="impossible")
    with pytest.raises(SuiteError, match="track=ptq: no result of registry .*; there are: rate-distortion"):
        citation.numbers(held, ["track=ptq"])
    with pytest.raises(RegistryError, match="no result meets 'status=ok'; leave a term out"):
        citation.numbers(held, ["status=ok"])
    with pytest.raises(
        RegistryError, match=r"none of the 1 results of this selection ended well \(impossible\)"
    ):
        citation.numbers(held)
    with pytest.raises(SuiteError, match="unknown key 'nothing'"):
        citation.numbers(held, ["nothing=1"])


def test_results_without_runs_are_cited_too(held: Registry, tmp_path: Path) -> None:
    add(held, [cell(2)])
    path = tmp_path / "plain.parquet"
    held.export(path)
    import duckdb

    bare = tmp_path / "bare.parquet"
    duckdb.sql(f"COPY (SELECT * REPLACE ([] AS runs) FROM '{path}') TO '{bare}'")
    other = Registry(tmp_path / "other.duckdb")
    assert other.merge(bare).added == 1
    found = citation.numbers(other)
    assert (found.suites, found.digests) == ((), ())
    assert "no suite" in found.title


def fields(entry: str) -> dict[str, str]:
    """Of an entry of BibTeX: values in braces that balance, escaped ones counted as BibTeX counts them."""
    found = {}
    for line in entry.strip().splitlines()[1:-1]:
        name, _, value = line.strip().removesuffix(",").partition(" = ")
        assert (value[0], value[-1]) == ("{", "}")
        depth = 0
        for number, mark in enumerate(value):
            depth += (mark == "{") - (mark == "}")
            assert depth > 0 or number == len(value) - 1
        found[name] = value[1:-1]
    return found


def test_bibtex(held: Registry) -> None:
    add(held, [cell(2)])
    found = citation.numbers(held)
    software, results, paper = citation.bibtex(
        found, Method("q", "d", "1", "Frantar et al. 2022, algorithm 1 (arXiv:2210.17323)")
    ).split("\n\n")
    assert software.startswith("@software{qbench,")
    assert fields(software) == {
        "title": citation.TITLE,
        "author": "{The qbench developers}",
        "year": str(citation.RELEASED.year),
        "version": qbench.__version__,
        "license": "Apache-2.0",
    }
    assert results.startswith(f"@misc{{qbench-results-{found.sha256[:8]},")
    assert found.sha256 in fields(results)["note"]
    assert fields(paper) == {
        "author": "{Frantar et al.}",
        "year": "2022",
        "note": "Frantar et al. 2022, algorithm 1 (arXiv:2210.17323)",
        "eprint": "2210.17323",
        "archiveprefix": "arXiv",
    }


@given(st.text(max_size=40) | st.just(HOSTILE))
def test_no_text_breaks_a_format(text: str) -> None:
    found = citation.Numbers(("a",), (text,), (("t", text),), (text,), citation.RELEASED, citation.RELEASED)
    method = Method("q", text, text, text)
    for entry in citation.bibtex(found, method).split("\n\n"):
        assert {"year", "note", "title"} & fields(entry).keys()
    loaded = yaml.safe_load(citation.cff(found, method))
    assert loaded["identifiers"][0]["value"] == f"sha256:{found.sha256}"
    assert len(loaded.get("references", [])) == len(method.works)
    assert citation.text(found, method).count("\n") == 3
    assert all(
        c.isprintable() or c == "\n" for form in citation.FORMATS.values() for c in form(found, method)
    )


@pytest.mark.parametrize(
    ("text", "author", "year", "arxiv"),
    [
        ("Max 1960, eq. 4-5", "Max", "1960", None),
        (
            "Courbariaux, Bengio & David 2015, eq. 1-3 (arXiv:1511.00363)",
            "Courbariaux, Bengio & David",
            "2015",
            "1511.00363",
        ),
        ("OCP Microscaling Formats v1.0, 2023", "OCP Microscaling Formats v1.0", "2023", None),
        ("OCP OFP8 v1.0", "OCP OFP8 v1.0", None, None),
    ],
)
def test_author_and_year_as_far_as_they_are_said(
    text: str, author: str, year: str | None, arxiv: str | None
) -> None:
    work = Work(text)
    assert (work.author, work.year, work.arxiv) == (author, year, arxiv)


def test_every_reference_of_the_package_is_read() -> None:
    """All name an author; most say a year."""
    from qbench import plugins

    catalog = plugins.load(["all"])
    named = [
        (name, catalog.entry("quantizer", name).component.reference) for name in catalog.names("quantizer")
    ]
    works = [work for name, text in named for work in Method(name, "", "", text).works]
    assert all(work.author and len(work.author) < 80 for work in works)
    assert sum(work.year is not None for work in works) > 0.9 * len(works)


def test_the_citation_file_is_what_the_command_says() -> None:
    assert (ROOT / "CITATION.cff").read_text() == citation.cff(None, None)


def test_the_citation_file_meets_the_format() -> None:
    """Version 1.2.0 requires cff-version, message, title and authors; of an entity a name."""
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= found.keys()
    assert found["authors"] == [{"name": "The qbench developers"}]
    assert found["version"] == qbench.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date-released"])
    assert (found["type"], found["license"]) == ("software", "Apache-2.0")
    assert set(found) <= {
        *("cff-version", "message", "type", "title", "authors", "version", "date-released", "license"),
        *("abstract", "keywords", "url", "repository-code", "identifiers", "references"),
    }
    assert all(value for value in found.values())


def test_results_and_papers_meet_the_format_too(held: Registry) -> None:
    """An identifier needs type and value; a reference type, title and authors."""
    add(held, [cell(2)])
    found = yaml.safe_load(citation.cff(citation.numbers(held), Method("q", "d", "1", "A 1999; OCP v1")))
    (identifier,) = found["identifiers"]
    assert identifier["type"] == "other"
    assert set(identifier) == {"type", "value", "description"}
    for reference in found["references"]:
        assert (
            {"type", "title", "authors"}
            <= reference.keys()
            <= {"type", "title", "authors", "year", "identifiers"}
        )
    assert [reference.get("year") for reference in found["references"]] == [1999, None]


def test_apa() -> None:
    title = "qbench: every way of quantizing a neural network, measured by the same honest rules"
    line = f"The qbench developers. (2026). {title} (Version {qbench.__version__}) [Computer software].\n"
    assert citation.apa(None, None) == line


def test_a_quantizer_that_names_no_paper_is_said_to(held: Registry) -> None:
    method = Method("mine", "my-package", "2.0", "")
    assert "Quantizer mine of my-package 2.0: it names no paper.\n" in citation.text(None, method)
    assert citation.bibtex(None, method) == citation.bibtex(None, None)


def test_the_identifiers_are_what_the_hash_is_of(held: Registry, invoke: Callable[..., str]) -> None:
    add(held, [cell(2), cell(3)])
    printed = invoke("--registry", held.path, "--ids")
    assert hashlib.sha256(printed.encode()).hexdigest() in invoke("--registry", held.path, "--format", "text")


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``qbench cite`` with these words; what it prints."""
    from qbench import cli

    def call(*words: Any) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.command_line(args=["cite", *map(str, words)], prog_name="qbench")
        assert not ended.value.code
        return capsys.readouterr().out

    return call


def test_the_command(held: Registry, invoke: Callable[..., str]) -> None:
    add(held, [cell(2)], suite="standard")
    add(held, [cell(3)], suite=HOSTILE[:20], digest="e" * 64)
    assert invoke() == citation.bibtex(None, None)
    assert "Results of suite standard," in invoke(
        "--registry", held.path, "--suite", "standard", "--format", "apa"
    )
    found = citation.numbers(held, ["bits=3"])
    assert invoke("--registry", held.path, "--where", "bits=3") == citation.bibtex(found, None)
    assert invoke("--format", "cff") == citation.cff(None, None)
    assert "arXiv:2210.17323" in invoke("--quantizer", "gptq", "--format", "text")
    assert "gptq" not in json.dumps(invoke("--format", "text"))
