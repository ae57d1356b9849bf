"""The decoder: a process that gets payload bytes, never saw a tensor, and forgets what it decoded.

A worker forks it before its first cell, when torch and plugins are loaded and no data is. It forks again for every
question, which is all the payloads that one score counts; that child reads, decodes, answers and is gone. What an
encoder hides in a global, on its class or in an earlier cell's message cannot reach it.

A question is a count, then so many payloads; an answer, to each payload, is one byte for its kind, then a line of JSON
and the tensor's bytes, or the text of an error, which is the last answer. Counts and lengths are 8 bytes little-endian.
"""

import json
import os
import socket
import struct
import traceback
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .errors import InvalidReconstructionError, QBenchError
from .measuring import decode
from .processes import die_with_parent

_LENGTH = struct.Struct("<Q")
_TENSOR, _INVALID, _ERROR, _NO_MEMORY = 0, 1, 2, 3


class DecodingError(QBenchError):
    """The decoder raised; carries its traceback."""


class DecoderGoneError(QBenchError):
    """The decoder's process ended without an answer."""


class Decoder:
    """The encoder's side: sends payloads, receives tensors."""

    def __init__(self, close: Iterable[int] = ()) -> None:
        """Fork. Call it before any data is in memory and before any thread is started.

        Args:
            close: file descriptors that the other process must not keep.
        """
        self._socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._socket.close()
                for descriptor in close:
                    os.close(descriptor)
                die_with_parent()
                _serve(theirs)
            finally:
                os._exit(1)
        theirs.close()

    def __call__(self, payloads: Sequence[bytes]) -> list[Tensor]:
        """The reconstructions on the CPU.

        Raises:
            InvalidReconstructionError: wrong shape, NaN or infinity.
            DecodingError: anything else that was raised over there.
            DecoderGoneError: it was killed, or called exit.
        """
        found = []
        try:
            self._socket.sendall(_LENGTH.pack(len(payloads)))
            for payload in payloads:
                self._socket.sendall(_LENGTH.pack(len(payload)))
                self._socket.sendall(payload)
                found.append(_receive(self._socket))
                if found[-1] is None or found[-1][0] != _TENSOR:
                    break
        except OSError:
            found.append(None)
        return [_read_answer(answer) for answer in found]

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        os.waitpid(self.pid, 0)


def _read_answer(answer: bytearray | None) -> Tensor:
    if answer is None:
        raise DecoderGoneError("the decoding process ended without an answer")
    kind = answer[0]
    if kind == _INVALID:
        raise InvalidReconstructionError(answer[1:].decode())
    if kind == _NO_MEMORY:
        raise MemoryError("while decoding:\n" + answer[1:].decode())
    if kind == _ERROR:
        raise DecodingError("while decoding:\n" + answer[1:].decode())
    end = answer.index(b"\n")
    meta = json.loads(answer[1:end])
    raw = torch.frombuffer(answer[end + 1 :] or bytearray(1), dtype=torch.uint8)
    dtype = getattr(torch, meta["dtype"])
    return (
        raw.view(dtype).reshape(meta["shape"])
        if len(answer) > end + 1
        else torch.empty(meta["shape"], dtype=dtype)
    )


def _answer(payload: bytes) -> bytes:
    try:
        x = decode(payload).contiguous()
    except InvalidReconstructionError as error:
        return bytes([_INVALID]) + str(error).encode()
    except MemoryError:
        return bytes([_NO_MEMORY]) + traceback.format_exc().encode()
    except BaseException:
        return bytes([_ERROR]) + traceback.format_exc().encode()
    meta = json.dumps({"shape": list(x.shape), "dtype": str(x.dtype).removeprefix("torch.")})
    raw = x.reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b""
    return bytes([_TENSOR]) + meta.encode() + b"\n" + raw


def _serve(channel: socket.socket) -> None:
    while (count := _exactly(channel, _LENGTH.size)) is not None:
        answered, answering = os.pipe()
        child = os.fork()
        if child == 0:
            die_with_parent()
            _answer_all(channel, _LENGTH.unpack(count)[0])
            os.write(answering, b"1")
            os._exit(0)
        os.close(answering)
        whole = os.read(answered, 1)
        os.close(answered)
        os.waitpid(child, 0)
        if not whole:
            return


def _answer_all(channel: socket.socket, count: int) -> None:
    for _ in range(count):
        payload = _receive(channel)
        if payload is None:
            return
        answer = _answer(bytes(payload))
        channel.sendall(_LENGTH.pack(len(answer)))
        channel.sendall(answer)
        if answer[0] != _TENSOR:
            return


def _receive(channel: socket.socket) -> bytearray | None:
    head = _exactly(channel, _LENGTH.size)
    return None if head is None else _exactly(channel, _LENGTH.unpack(head)[0])


def _exactly(channel: socket.socket, count: int) -> bytearray | None:
    data = bytearray(count)
    view, at = memoryview(data), 0
    while at < count:
        got = channel.recv_into(view[at:])
        if not got:
            return None
        at += got
    return data
