"""Exceptions a user can meet. Each message names the culprit, the value, what is allowed, what to do next."""


class QBenchError(Exception):
    """Base of every error that is the input's fault, not the program's; shown as one line, exit code 2."""


class ParameterError(QBenchError):
    """A component got a parameter it does not have, or a value outside its range."""


class SpecError(QBenchError):
    """A specification such as ``uniform(bits=4)`` could not be read."""


class UnknownComponentError(QBenchError):
    """No installed plugin provides a component of that name."""


class PluginError(QBenchError):
    """Installed plugins contradict each other, or one of them breaks the rules of a hook."""


class InputError(QBenchError):
    """A tensor that cannot be quantized: not a float, empty of meaning, NaN or infinite."""


class PayloadError(QBenchError):
    """Bytes that no encoder of this project wrote: wrong magic, truncated, inconsistent."""


class InvalidReconstructionError(QBenchError):
    """A decoder returned NaN, infinity or a wrong shape. The cell ends as ``invalid``."""


class SuiteError(QBenchError):
    """A suite file or a selection that does not say what it must."""


class DataError(QBenchError):
    """A data set that is absent, damaged or could not be fetched."""


class RegistryError(QBenchError):
    """A registry that cannot be read, written or understood by this version."""


class WorkerError(QBenchError):
    """Worker processes cannot be started."""
