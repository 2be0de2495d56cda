"""The rule by which a bundle of overlapping regions gives each voxel one label, parsed from its ``Lambdad``."""

import ast
from collections.abc import Iterator

_DEEPEST = 32


def label_rule(code: str) -> tuple[tuple[int, int], ...] | None:
    """Read ``$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))``, which is never evaluated.

    Args:
        code: Expression of MONAI's config language over binary channels.

    Returns:
        Channel and label of each decision, the first one that holds counts; ((2, 4), (0, 1)) for the example. None for
        an expression of another form.
    """
    try:
        tree = ast.parse(code.removeprefix("$").strip(), mode="eval").body
        if not isinstance(tree, ast.Lambda) or len(tree.args.args) != 1:
            return None
        return tuple(_decisions(tree.body, tree.args.args[0].arg))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _decisions(node: ast.expr, argument: str) -> Iterator[tuple[int, int]]:
    for _ in range(_DEEPEST):
        match node:
            case ast.Constant(value=0):
                return
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="torch"), attr="where"),
                args=[condition, ast.Constant(value=int(label)), following],
                keywords=[],
            ):
                yield _channel(condition, argument), label
                node = following
            case _:
                break
    raise ValueError("another form")


def _channel(condition: ast.expr, argument: str) -> int:
    match condition:
        case ast.Compare(
            left=ast.Subscript(
                value=ast.Name(id=name),
                slice=ast.Constant(value=int(channel)) | ast.List(elts=[ast.Constant(value=int(channel))]),
            ),
            ops=[ast.Gt()],
            comparators=[ast.Constant(value=int() | float() as limit)],
        ) if name == argument and 0 <= limit < 1 and channel >= 0:
            return channel
    raise ValueError("another form")
