"""MNIST, through torchvision."""

from typing import Any

from .torchvision_mnist import TorchvisionMnist


class Mnist(TorchvisionMnist):
    """70,000 handwritten digits of 28x28 pixels, 60,000 of them for training.

    Reference: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document
    recognition, 1998.
    """

    name = "mnist"
    reference = "LeCun et al. 1998"
    folder = "MNIST"
    packed_bytes = (9912422, 28881, 1648877, 4542)
    download_bytes = sum(packed_bytes)

    def source(self) -> Any:
        from torchvision.datasets import MNIST

        return MNIST
