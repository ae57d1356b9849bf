"""What goes wrong between here and the Hub, each in one line: what, which repository, what to do.

Whatever the client raises ends here. Where trying again may help and can do no harm the error says so, and
:func:`persistently` tries again. No text that comes from outside is passed on before it was cleaned, and the
token is in none.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, final

from ..environment import clean_traceback
from ..errors import QBenchError

TRIES = 6
LONGEST_WAIT = 90.0  # seconds; a Hub that asks for more is left alone
PASSING = (408, 425, 429, 500, 502, 503, 504)
CONFLICTS = (409, 412)
_TRANSPORT = ("httpx", "httpx2", "httpcore", "httpcore2")

T = TypeVar("T")
_jitter = random.SystemRandom()


@final
class HubError(QBenchError):
    """The Hub refused, failed or could not be reached.

    Attributes:
        again: the same may succeed in a moment, and is safe to try.
        passing: it is no fault of what was asked: the Hub failed, or the network.
        wait: seconds that the Hub asked to wait; 0 where it did not say.
        missing: there is no such repository, as far as the token can see.
    """

    def __init__(
        self,
        message: str,
        *,
        again: bool = False,
        passing: bool = False,
        wait: float = 0.0,
        missing: bool = False,
    ) -> None:
        super().__init__(message)
        self.again, self.passing, self.wait, self.missing = again, passing or again, wait, missing


@final
@dataclass(frozen=True)
class Asked:
    """What the client was asked when it failed.

    Attributes:
        doing: "read", "create", "write to", ...
        where: the repository in words: "Space alice/board".
        endpoint: address of the Hub.
        token: to be kept out of every line; None where there was none.
        reached: whether the Hub had answered before. One that never did is not tried again: there is no network.
    """

    doing: str
    where: str
    endpoint: str
    token: str | None
    reached: bool


def persistently(attempt: Callable[[], T], say: Callable[[str], object]) -> T:
    """What ``attempt`` returns, tried up to ``TRIES`` times while its faults may pass.

    Waits 1, 2, 4, ... seconds, times a random number from 1/2 to 1, or as long as the Hub asks.

    Raises:
        HubError: a fault that will not pass, or the last of those that might have.
    """
    for number in range(TRIES - 1):
        try:
            return attempt()
        except HubError as error:
            error.__context__ = None  # the client's error, which knows the token
            if not error.again or error.wait > LONGEST_WAIT:
                raise
            pause = error.wait or 2.0**number * _jitter.uniform(0.5, 1.0)
            say(f"{error}; trying again in {pause:.0f} s")
            time.sleep(pause)
    try:
        return attempt()
    except HubError as error:
        error.__context__ = None
        if error.again:
            line = f"{error}; gave up after {TRIES} tries: run the same command later, it is safe to repeat"
            raise HubError(line, passing=True) from None
        raise


def explain(error: Exception, asked: Asked) -> HubError:
    """The line for whatever the client raised."""
    causes = list(_causes(error))
    cannot = f"cannot {asked.doing} {asked.where}"
    answers = [cause.response for cause in causes if getattr(cause, "response", None) is not None]
    if answers:
        said = clean(str(getattr(causes[0], "server_message", None) or ""), asked.token)
        return _answered(answers[0], said, asked)
    if any(type(cause).__name__ == "OfflineModeIsEnabled" for cause in causes):
        return HubError(f"{cannot}: offline mode is on; unset HF_HUB_OFFLINE")
    transport = [cause for cause in causes if type(cause).__module__.partition(".")[0] in _TRANSPORT]
    if transport:
        return _unreached(transport[0], asked)
    reason = clean(str(error) or type(error).__name__, asked.token)
    if "Consistency check failed" in reason:  # a part of a file arrived
        return HubError(f"{cannot}: the connection was cut", again=True)
    return HubError(f"{cannot}: {reason}; is {asked.endpoint} a Hub?")


def clean(text: str, token: str | None) -> str:
    """``text`` in one line of at most 300 characters, without the token, credentials and homes."""
    if token:
        text = text.replace(token, "[token]")
    line = " ".join(clean_traceback(text).split())[:300]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _causes(error: BaseException) -> Iterator[Any]:
    """The error and those behind it, the ones with an answer of the Hub first."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    yield from sorted(chain, key=lambda one: getattr(one, "response", None) is None)


def _unreached(error: Exception, asked: Asked) -> HubError:
    reason = clean(str(error) or type(error).__name__, asked.token)
    if "Connect" in type(error).__name__:
        line = f"cannot reach {asked.endpoint} to {asked.doing} {asked.where} ({reason})"
        return HubError(f"{line}; check the network and HF_ENDPOINT", again=asked.reached, passing=True)
    return HubError(
        f"the connection was cut on the way to {asked.doing} {asked.where} ({reason})", again=True
    )


def _answered(answer: Any, said: str, asked: Asked) -> HubError:
    status, doing, where = int(answer.status_code), asked.doing, asked.where
    if status in CONFLICTS:
        return HubError(f"{where} was changed by somebody else meanwhile ({status})", again=True)
    if status in PASSING:
        busy = "is busy" if status == 429 else "failed"
        line = f"the Hub {busy} ({status}) when asked to {doing} {where}"
        return HubError(line, again=True, wait=_seconds(answer.headers.get("Retry-After", "")))
    if status == 401:
        return HubError(_unknown(asked))
    if status == 403:
        return HubError(f"no permission to {doing} {where} (403); {_REMEDIES.get(doing, _ASK)}")
    if status == 404:
        return _missing(answer.headers.get("X-Error-Code", ""), asked)
    return HubError(f"the Hub refuses to {doing} {where} ({status}): {said or 'it does not say why'}")


_ASK = "use a token that may, or ask the owner"
_REMEDIES = {
    "write to": "use a token with write access, or open a pull request with --create-pr",
    "create": "use a token with write access for that owner, or name another owner",
}


def _unknown(asked: Asked) -> str:
    if asked.token is None:
        return (
            f"there is no {asked.where} that everybody may {asked.doing} (401); "
            "check the name, or log in with `hf auth login`"
        )
    return (
        f"the Hub does not take the token, asked to {asked.doing} {asked.where} (401); "
        "log in with `hf auth login`, or set HF_TOKEN to one that is valid"
    )


def _missing(code: str, asked: Asked) -> HubError:
    what = {"RevisionNotFound": "no such revision", "EntryNotFound": "no such file"}.get(code)
    if what:
        return HubError(f"there is {what} in {asked.where} (404); look at {asked.endpoint} for what there is")
    line = f"there is no {asked.where} at {asked.endpoint}, or the token may not see it (404)"
    return HubError(f"{line}; check the name, or log in with `hf auth login`", missing=True)


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0.0
