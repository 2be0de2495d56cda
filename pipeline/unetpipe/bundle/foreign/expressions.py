"""The few ``$`` expressions of MONAI's config language that are harmless: constants, and choices between them.

``$[1.5, 1.5, 1.5] if @highres else [3.0, 3.0, 3.0]`` and ``$@bundle_root + '/models/' + @name`` stand for values that a
config could have held itself. They are parsed and computed here from their syntax tree; nothing is ever evaluated by
Python. Every other expression stays text.
"""

import ast
import re
from collections.abc import Callable
from typing import Any

_REFERENCE = re.compile(r"@([A-Za-z_][\w#:]*)")
_LONGEST = 2000  # characters of an expression, and of a text that one makes


class Expression(str):
    """A text that begins with ``$`` and that is not evaluated."""

    __slots__ = ()


class _NotConstantError(Exception):
    """An expression has a part that is no constant."""


def constant(text: str, lookup: Callable[[str], Any]) -> Any:
    """The value of an expression that is made of constants; an `Expression` where it is not.

    Args:
        text: Expression, with its ``$``.
        lookup: Value of a reference, such as ``highres`` for ``@highres``.
    """
    if len(text) > _LONGEST:
        return Expression(text)
    references: list[str] = []

    def name_of(match: re.Match[str]) -> str:
        references.append(match[1])
        return f"__reference_{len(references) - 1}"

    try:
        tree = ast.parse(_REFERENCE.sub(name_of, text[1:]).strip(), mode="eval")
        names = {f"__reference_{number}": reference for number, reference in enumerate(references)}
        return _value(tree.body, lambda name: lookup(names[name]))
    except (_NotConstantError, SyntaxError, ValueError, RecursionError, MemoryError, KeyError):
        return Expression(text)


def _value(node: ast.expr, lookup: Callable[[str], Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.List() | ast.Tuple():
            return [_value(item, lookup) for item in node.elts]
        case ast.Name():
            value = lookup(node.id)
            if isinstance(value, Expression):
                raise _NotConstantError
            return value
        case ast.IfExp():
            return _value(node.body if _truth(node.test, lookup) else node.orelse, lookup)
        case ast.UnaryOp(op=ast.Not()):
            return not _truth(node.operand, lookup)
        case ast.UnaryOp(op=ast.USub()):
            number = _value(node.operand, lookup)
            if type(number) in (int, float):
                return -number
        case ast.BinOp(op=ast.Add()):
            left, right = _value(node.left, lookup), _value(node.right, lookup)
            if isinstance(left, str) and isinstance(right, str) and len(left) + len(right) <= _LONGEST:
                return left + right
    raise _NotConstantError


def _truth(node: ast.expr, lookup: Callable[[str], Any]) -> bool:
    value = _value(node, lookup)
    if not isinstance(value, bool | int):
        raise _NotConstantError
    return bool(value)
