"""The contract kit: everything a quantizer must hold to, checked in a second or two.

>>> import qbench
>>> check_quantizer(qbench.quantizer("uniform", bits=4)).ok
True
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from ..components import Quantizer
from . import coding, inputs, training
from .subject import ContractError, NotApplicable, Subject, twin

if TYPE_CHECKING:
    import pytest

__all__ = [
    "Check",
    "ContractError",
    "Finding",
    "NotApplicable",
    "Report",
    "check_quantizer",
    "checks",
    "parametrize_checks",
]

_CHECKS: dict[str, Callable[[Subject], str | None]] = {
    "description": coding.description,
    "shapes-and-dtypes": inputs.shapes_and_dtypes,
    "device": inputs.device,
    "refused-inputs": inputs.refused_inputs,
    "one-element": inputs.one_element,
    "constants": inputs.constants,
    "extreme-values": inputs.extreme_values,
    "odd-sizes": inputs.odd_sizes,
    "scale-free": inputs.scale_free,
    "resembles": inputs.resembles,
    "static-codebook": coding.static_codebook,
    "deterministic": coding.deterministic,
    "process-untouched": coding.process_untouched,
    "arguments-untouched": coding.arguments_untouched,
    "bytes-counted": coding.bytes_counted,
    "header-says-nothing": coding.header_says_nothing,
    "decodes-elsewhere": coding.decodes_elsewhere,
    "not-below-the-limit": coding.not_below_the_limit,
    "unbiased": coding.unbiased,
    "surrogate": training.surrogate,
}


@final
@dataclass(frozen=True)
class Finding:
    """How one check ended: ``failed`` with what broke, ``skipped`` with why, ``ok`` with a remark or nothing."""

    check: str
    status: Literal["ok", "failed", "skipped"]
    detail: str = ""


@final
@dataclass(frozen=True)
class Report:
    """Every check of one quantizer."""

    quantizer: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [finding.check for finding in self.findings if finding.status == "failed"]

    def __str__(self) -> str:
        return "\n".join(f"{f.check}: {f.status} {f.detail}".rstrip() for f in self.findings)


@final
@dataclass(frozen=True)
class Check:
    """One requirement of the contract. Call it with a quantizer."""

    name: str

    def __call__(self, quantizer: Quantizer, *, seed: int = 0) -> str:
        """A remark, or nothing.

        Raises:
            ContractError: the quantizer breaks the contract; one line.
            NotApplicable: the check has nothing to say here; a ``unittest.SkipTest``, so pytest skips.
        """
        with coding.preserved_state():
            subject, remark = Subject(twin(quantizer), seed), None
            with subject.trying(self.name, "nothing may be raised here; its traceback says where"):
                remark = _CHECKS[self.name](subject)
        return remark or ""

    def finding(self, quantizer: Quantizer, *, seed: int = 0) -> Finding:
        """What calling it came to."""
        try:
            return Finding(self.name, "ok", self(quantizer, seed=seed))
        except NotApplicable as reason:
            return Finding(self.name, "skipped", str(reason))
        except Exception as error:
            return Finding(self.name, "failed", str(error))

    def __str__(self) -> str:
        return self.name


def checks() -> list[Check]:
    """Every check, in the order in which they run."""
    return [Check(name) for name in _CHECKS]


def check_quantizer(quantizer: Quantizer, *, seed: int = 0) -> Report:
    """Run every check on a quantizer at its parameters; nothing is raised for what is broken.

    Args:
        quantizer: an instance. What no plugin offers is decoded in this process only, and the report says so.
        seed: of the data and of ``context.generator``.
    """
    return Report(str(quantizer), tuple(check.finding(quantizer, seed=seed) for check in checks()))


def parametrize_checks(quantizers: Iterable[Quantizer]) -> "pytest.MarkDecorator":
    """A pytest decorator: the test gets every pair of ``quantizer`` and ``check``.

    A plugin's whole test of the contract is ``@parametrize_checks([Mine(bits=4)])`` above
    ``def test_contract(quantizer, check): check(quantizer)``.
    """
    import pytest

    cases: list[Any] = [
        pytest.param(quantizer, check, id=f"{quantizer}-{check}")
        for quantizer in quantizers
        for check in checks()
    ]
    return pytest.mark.parametrize(("quantizer", "check"), cases)
