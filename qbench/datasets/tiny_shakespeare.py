"""A million characters of Shakespeare."""

from pathlib import Path
from typing import final

from ..errors import DataError
from ..places import DATA_VARIABLE
from .characters import Characters
from .downloads import Download, fetching, one_line

FILE = Download(
    "input.txt",
    "6fb458f1232090904fb40fe944165e91",
    1_115_394,
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
)


@final
class TinyShakespeare(Characters):
    """1,115,394 characters of 65 kinds, scenes one after the other, in ``tiny-shakespeare/input.txt``.

    Reference: A. Karpathy, The unreasonable effectiveness of recurrent neural networks, 2015.
    """

    name = "tiny-shakespeare"
    reference = "Karpathy, The unreasonable effectiveness of recurrent neural networks, 2015"
    download_bytes = FILE.size

    def fetch(self, root: Path) -> None:
        folder = self._path(root).parent
        with fetching(self.name, folder, self._by_hand(root)):
            if self.missing(root) is not None:
                FILE.fetch(folder)

    def text(self, root: Path) -> str:
        path = self._path(root)
        try:
            problem = FILE.problem(path) if path.is_file() else f"{path} is not there"
            content = path.read_bytes() if problem is None else b""
        except OSError as error:
            problem = one_line(error)
        if problem is not None:
            fetch = f"run without --offline to fetch {FILE.size / 1e6:.1f} MB"
            raise DataError(f"{self.name}: {problem}; {fetch}, or {self._by_hand(root)}")
        return content.decode()

    def _path(self, root: Path) -> Path:
        return root.absolute() / self.name / FILE.name

    def _by_hand(self, root: Path) -> str:
        return (
            f"put {FILE.mirrors[0]}{FILE.name} at {self._path(root)}, "
            f"or set {DATA_VARIABLE} to a folder that holds {self.name}/{FILE.name}"
        )
