"""Budgets and specifications as settings, and those in which several differ. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def differences(budgets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each the settings in which they differ; nested ones are named ``training.epochs``.

    >>> differences([{"rate": 4, "training": {"epochs": 1}}, {"rate": 4, "training": {"epochs": 2}}])
    [{'training.epochs': 1}, {'training.epochs': 2}]
    """
    flat = [dict(leaves("", budget)) for budget in budgets]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    several = [key for key in keys if len({str(one.get(key)) for one in flat}) > 1]
    return [{key: one[key] for key in several if key in one} for one in flat]


def leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every setting that holds no others, by its whole name."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value


def written(settings: Mapping[str, Any]) -> list[str]:
    """Each setting that is there, as ``name=value``.

    >>> written({"method": "greedy", "transfer": None, "transforms": ["a", "b"]})
    ['method=greedy', 'transforms=[a, b]']
    """
    return [f"{name}={_text(value)}" for name, value in settings.items() if value not in (None, [])]


def _text(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
