"""Reading a message in a decoder."""

from torch import Tensor

from ..errors import PayloadError
from ..message import Message, Stream


def values(message: Message, name: str) -> Tensor:
    """The numbers under ``name``: a tensor, or the integers of a stream.

    Raises:
        PayloadError: nothing of that name, or a nested message.
    """
    found = message.get(name)
    if isinstance(found, Stream):
        return found.values
    if isinstance(found, Tensor):
        return found
    raise PayloadError(f"the message has no numbers {name!r}; it has: {', '.join(message) or 'nothing'}")
