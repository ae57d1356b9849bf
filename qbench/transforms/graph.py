"""A network as torch.fx traces it, and which of its modules a transform may change."""

from collections import Counter
from typing import final

from torch import fx, nn

from ..components import Transform
from ..errors import InputError
from ..layers import LAYERS


@final
class Graph:
    """The operations of a network, each a node, in the order in which they run.

    Args:
        module: the network.
        transform: what the graph is for, named where there is none.

    Raises:
        InputError: the network's Python code depends on its input, so that no graph can be traced.
    """

    def __init__(self, module: nn.Module, transform: Transform) -> None:
        self._modules = dict(module.named_modules())
        try:
            self.nodes = list(fx.Tracer().trace(module).nodes)
        except Exception as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{transform} needs a graph, and torch.fx cannot trace {type(module).__name__}: {why}; "
                "leave this transform out, or write the model without decisions that depend on its input"
            ) from error
        self._calls = Counter(str(node.target) for node in self.nodes if node.op == "call_module")
        read = (str(node.target) for node in self.nodes if node.op == "get_attr")
        self._read = {name.rpartition(".")[0] for name in read}
        self._owners = Counter(id(tensor) for part in self._modules.values() for tensor in _parameters(part))

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, or None where it calls none."""
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def changeable(self, node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> nn.Module | None:
        """The module that a node calls, if it is of these kinds and nothing else in the network depends on it.

        That is: it is called once, its parameters are its own, its weight is one of them and not computed from
        others, and no operation reads them by themselves.
        """
        found = self.module(node)
        if found is None or not isinstance(found, kinds):
            return None
        if isinstance(found, LAYERS) and found._parameters.get("weight") is None:
            return None
        own = all(self._owners[id(tensor)] == 1 for tensor in _parameters(found))
        return found if own and self._calls[str(node.target)] == 1 and node.target not in self._read else None


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module._parameters.values() if parameter is not None]
