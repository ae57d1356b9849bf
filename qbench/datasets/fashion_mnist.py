"""Fashion-MNIST, through torchvision."""

from typing import Any

from .torchvision_mnist import TorchvisionMnist


class FashionMnist(TorchvisionMnist):
    """70,000 pictures of clothes of 28x28 pixels in ten classes of equal size, 60,000 of them for training.

    Reference: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms, 2017.
    """

    name = "fashion-mnist"
    reference = "Xiao et al. 2017"
    folder = "FashionMNIST"
    packed_bytes = (26421880, 29515, 4422102, 5148)
    download_bytes = sum(packed_bytes)

    def source(self) -> Any:
        from torchvision.datasets import FashionMNIST

        return FashionMNIST
