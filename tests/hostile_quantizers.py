"""A plugin of quantizers that raise, hang, crash, smuggle and cheat, and how a cell of each must end."""

HOSTILE = '''
import os, sys, time
import torch
import qbench

class Base(qbench.Quantizer):
    sweep = ()
    def fit(self, x, *, context): return {}
    def encode(self, x, codebook, *, context): return {"bit": qbench.Stream((x > 0).long(), 2)}
    def decode(self, codes, codebook, shape): return 0.1 * (codes["bit"].values.float().reshape(shape) - 0.5)

class Raises(Base):
    name = "raises"
    def encode(self, x, codebook, *, context): raise RuntimeError("no, thank you")

class Hangs(Base):
    name = "hangs"
    def encode(self, x, codebook, *, context):
        while True: time.sleep(1)

class HangsInDecode(Base):
    name = "hangs-in-decode"
    def decode(self, codes, codebook, shape):
        while True: time.sleep(1)

class ReturnsNan(Base):
    name = "returns-nan"
    def decode(self, codes, codebook, shape): return torch.full(shape, float("nan"))

class WrongShape(Base):
    name = "wrong-shape"
    def decode(self, codes, codebook, shape): return torch.zeros(7)

class Hungry(Base):
    name = "hungry"
    def encode(self, x, codebook, *, context):
        eaten = []
        while True: eaten.append(torch.ones(1 << 24))

class ChangesDtype(Base):
    name = "changes-dtype"
    def encode(self, x, codebook, *, context):
        torch.set_default_dtype(torch.float64)
        return super().encode(x, codebook, context=context)

class DrawsGlobally(Base):
    name = "draws-globally"
    def encode(self, x, codebook, *, context):
        torch.rand(1)
        return super().encode(x, codebook, context=context)

class Exits(Base):
    name = "exits"
    def encode(self, x, codebook, *, context): sys.exit(0)

class ExitsHard(Base):
    name = "exits-hard"
    def encode(self, x, codebook, *, context): os._exit(0)

class ExitsInDecode(Base):
    name = "exits-in-decode"
    def decode(self, codes, codebook, shape): os._exit(0)

class Smuggles(Base):
    """Hides the tensor in a global; a decoder in the same process would find it."""
    name = "smuggles"
    hidden = {}
    def encode(self, x, codebook, *, context):
        Smuggles.hidden[tuple(x.shape)] = x
        return {"bit": qbench.Stream(torch.zeros(1, dtype=torch.long), 1)}
    def decode(self, codes, codebook, shape): return Smuggles.hidden.get(tuple(shape), torch.zeros(shape))

class Cheats(Base):
    """Hands the tensors over behind the core's back, in the order in which they were encoded."""
    name = "cheats"
    folder = os.environ.get("QBENCH_TEST_CHEAT", "")
    def encode(self, x, codebook, *, context):
        x.numpy().tofile(os.path.join(self.folder, f"{time.monotonic_ns():020d}"))
        return {"bit": qbench.Stream(torch.zeros(1, dtype=torch.long), 1)}
    def decode(self, codes, codebook, shape):
        import numpy
        oldest = os.path.join(self.folder, min(os.listdir(self.folder)))
        x = torch.from_numpy(numpy.fromfile(oldest, dtype="float32")).reshape(shape)
        os.unlink(oldest)
        return x

class EmptyError(Base):
    name = "empty-error"
    def encode(self, x, codebook, *, context): raise qbench.errors.InputError("")

class LongCrash(Base):
    name = "long-crash"
    def encode(self, x, codebook, *, context):
        print("x" * 200_000, flush=True)
        os._exit(3)

class OddSignal(Base):
    name = "odd-signal"
    def encode(self, x, codebook, *, context): os.kill(os.getpid(), 40)

class Babbles(Base):
    """Writes on every descriptor it can find, the line to the parent among them."""
    name = "babbles"
    def encode(self, x, codebook, *, context):
        for descriptor in map(int, os.listdir("/dev/fd")):
            try: os.write(descriptor, b"hello?\\n")
            except OSError: pass
        time.sleep(60)

class LeavesChild(Base):
    name = "leaves-child"
    def encode(self, x, codebook, *, context):
        if os.fork() == 0:
            time.sleep(120)
        os._exit(3)

class LeavesThread(Base):
    name = "leaves-thread"
    def encode(self, x, codebook, *, context):
        import threading
        threading.Thread(target=time.sleep, args=(120,), daemon=True).start()
        return super().encode(x, codebook, context=context)

class Hint(qbench.Parameters):
    hint: str = ""

class HidesInHeader(Base):
    """Puts data into its own specification, which is free."""
    name = "hides-in-header"
    Parameters = Hint
    def encode(self, x, codebook, *, context):
        self.parameters = Hint(hint="".join("01"[int(v > 0)] for v in x[:64]))
        return super().encode(x, codebook, context=context)

class HidesInCodebook(Base):
    """Writes the tensor into a codebook that existed before; the decoder must not find it there."""
    name = "hides-in-codebook"
    def encode(self, x, codebook, *, context):
        codebook["x"] = x
        return {"bit": qbench.Stream(torch.zeros(1, dtype=torch.long), 1)}
    def decode(self, codes, codebook, shape): return codebook.get("x", torch.zeros(shape))

class Honest(Base):
    name = "honest"
    sweep = ({},)

@qbench.hookimpl
def qbench_quantizers():
    return [Raises, Hangs, HangsInDecode, ReturnsNan, WrongShape, Hungry, ChangesDtype, DrawsGlobally, Exits, ExitsHard,
            ExitsInDecode, Smuggles, Cheats, EmptyError, LongCrash, OddSignal, Babbles, LeavesChild, LeavesThread,
            HidesInHeader, HidesInCodebook, Honest]
'''
EXPECTED = {
    "raises": ("error", "no, thank you"),
    "hangs": ("timeout", "no result within"),
    "hangs-in-decode": ("timeout", "no result within"),
    "returns-nan": ("invalid", "NaN"),
    "wrong-shape": ("invalid", "instead of shape"),
    "hungry": ("out_of_memory", "GiB"),
    "changes-dtype": ("error", "the default dtype"),
    "draws-globally": ("error", "global random state"),
    "exits": ("error", "SystemExit"),
    "exits-hard": ("crashed", "exit code 0"),
    "exits-in-decode": ("crashed", "ended without an answer"),
    "cheats": ("impossible", "below the limit"),
    "empty-error": ("error", "no word why"),
    "long-crash": ("crashed", "xxxx"),
    "odd-signal": ("crashed", "signal 40"),
    "babbles": ("crashed", "the process ended"),
    "leaves-child": ("crashed", "exit code 3"),
    "leaves-thread": ("error", "the running threads"),
    "hides-in-header": ("error", "while coding"),
    "hides-in-codebook": ("ok", None),
    "smuggles": ("ok", None),
    "honest": ("ok", None),
}
