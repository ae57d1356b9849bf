"""What comes with qbench, through the same hooks as everything else."""

from collections.abc import Iterable
from pathlib import Path

from .components import Dataset, Model, Optimizer, Quantizer, Track, Transform
from .hookspecs import hookimpl


@hookimpl
def qbench_quantizers() -> Iterable[type[Quantizer]]:
    from .quantizers.adaround import Adaround
    from .quantizers.additive_vq import AdditiveVQ
    from .quantizers.binary import Binary
    from .quantizers.binaryconnect import BinaryConnect
    from .quantizers.dorefa import DoReFa, DoReFaActivation, DoReFaGradient
    from .quantizers.drive import Drive
    from .quantizers.e8p import E8P
    from .quantizers.ecsq import Ecsq
    from .quantizers.entropy_coded import EntropyCoded
    from .quantizers.fp4 import Fp4
    from .quantizers.fp8_e4m3 import Fp8E4M3
    from .quantizers.fp8_e5m2 import Fp8E5M2
    from .quantizers.gptq import Gptq
    from .quantizers.hadamard import Hadamard
    from .quantizers.hqq import Hqq
    from .quantizers.kmeans import KMeans
    from .quantizers.kmeans_hessian import KMeansHessian
    from .quantizers.lattice_quantizer import LatticeQuantizer
    from .quantizers.lloyd_max import LloydMax
    from .quantizers.log2 import Log2
    from .quantizers.lsq import LSQ
    from .quantizers.mxfp4 import MxFp4
    from .quantizers.mxfp6 import MxFp6
    from .quantizers.mxfp8 import MxFp8
    from .quantizers.nested_lattice import NestedLattice
    from .quantizers.nf4 import Nf4
    from .quantizers.nvfp4 import NvFp4
    from .quantizers.onebit import OneBit
    from .quantizers.pact import PACT
    from .quantizers.powersgd import PowerSgd
    from .quantizers.predictive import Predictive
    from .quantizers.probabilistic import Probabilistic
    from .quantizers.probabilistic_weights import ProbabilisticWeights
    from .quantizers.product_vq import ProductVQ
    from .quantizers.qsgd import QSGD
    from .quantizers.residual_vq import ResidualVQ
    from .quantizers.signsgd import SignSGD
    from .quantizers.soft_to_hard import SoftToHard
    from .quantizers.stochastic_rounding import StochasticRounding
    from .quantizers.ternary import Ternary
    from .quantizers.terngrad import TernGrad
    from .quantizers.topk import TopK
    from .quantizers.trellis import Trellis
    from .quantizers.uniform import Uniform
    from .quantizers.xnor import XNOR

    return [
        Adaround,
        AdditiveVQ,
        Binary,
        BinaryConnect,
        DoReFa,
        DoReFaActivation,
        DoReFaGradient,
        Drive,
        E8P,
        Ecsq,
        EntropyCoded,
        Fp4,
        Fp8E4M3,
        Fp8E5M2,
        Gptq,
        Hadamard,
        Hqq,
        KMeans,
        KMeansHessian,
        LatticeQuantizer,
        LloydMax,
        Log2,
        LSQ,
        MxFp4,
        MxFp6,
        MxFp8,
        NestedLattice,
        Nf4,
        NvFp4,
        OneBit,
        PACT,
        PowerSgd,
        Predictive,
        Probabilistic,
        ProbabilisticWeights,
        ProductVQ,
        QSGD,
        ResidualVQ,
        SignSGD,
        SoftToHard,
        StochasticRounding,
        Ternary,
        TernGrad,
        TopK,
        Trellis,
        Uniform,
        XNOR,
    ]


@hookimpl
def qbench_models() -> Iterable[type[Model]]:
    from .models.alexnet import AlexNet
    from .models.cnn import Cnn
    from .models.densenet121 import DenseNet121
    from .models.googlenet import GoogLeNet
    from .models.gpt import Gpt
    from .models.mlp import Mlp
    from .models.resnet18 import ResNet18
    from .models.vit import Vit

    return [AlexNet, Cnn, DenseNet121, GoogLeNet, Gpt, Mlp, ResNet18, Vit]


@hookimpl
def qbench_datasets() -> Iterable[type[Dataset]]:
    from .datasets.cifar10 import Cifar10
    from .datasets.digits import Digits
    from .datasets.emnist_digits import EmnistDigits
    from .datasets.english import English
    from .datasets.fashion_mnist import FashionMnist
    from .datasets.gaussian import Gaussian
    from .datasets.image_folder import ImageFolder
    from .datasets.laplacian import Laplacian
    from .datasets.mnist import Mnist
    from .datasets.scale_mixture import ScaleMixture
    from .datasets.textfile import TextFile
    from .datasets.tiny_shakespeare import TinyShakespeare
    from .datasets.uniform import Uniform

    return [
        Cifar10,
        Digits,
        EmnistDigits,
        English,
        FashionMnist,
        Gaussian,
        ImageFolder,
        Laplacian,
        Mnist,
        ScaleMixture,
        TextFile,
        TinyShakespeare,
        Uniform,
    ]


@hookimpl
def qbench_optimizers() -> Iterable[type[Optimizer]]:
    from .optimizers.adagrad import Adagrad
    from .optimizers.adam import Adam
    from .optimizers.adamw import AdamW
    from .optimizers.momentum import Momentum
    from .optimizers.rmsprop import RmsProp
    from .optimizers.sgd import Sgd

    return [Adagrad, Adam, AdamW, Momentum, RmsProp, Sgd]


@hookimpl
def qbench_transforms() -> Iterable[type[Transform]]:
    from .transforms.batch_norm_folding import BatchNormFolding
    from .transforms.bias_correction import BiasCorrection
    from .transforms.cross_layer_equalization import CrossLayerEqualization

    return [BatchNormFolding, BiasCorrection, CrossLayerEqualization]


@hookimpl
def qbench_tracks() -> Iterable[type[Track]]:
    from .tracks.float_training import FloatTraining
    from .tracks.gradient_compression import GradientCompression
    from .tracks.gradient_statistics import GradientStatistics
    from .tracks.lattice_scaling import LatticeScaling
    from .tracks.mixed_precision import MixedPrecision
    from .tracks.ptq import Ptq
    from .tracks.qat import Qat
    from .tracks.rate_distortion import RateDistortion
    from .tracks.reference import Reference
    from .tracks.saved_activations import SavedActivations

    return [
        FloatTraining,
        GradientCompression,
        GradientStatistics,
        LatticeScaling,
        MixedPrecision,
        Ptq,
        Qat,
        RateDistortion,
        Reference,
        SavedActivations,
    ]


@hookimpl
def qbench_suites() -> Iterable[Path]:
    return sorted((Path(__file__).parent / "suites").glob("*.toml"))
