"""CUDA's source as C++ for device.h: launches and dynamic shared memory, which no header can give."""

from __future__ import annotations

import re

_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
_DYNAMIC = re.compile(r"\bextern\s+__shared__\s+(?:__align__\(\w+\)\s*)?([^;=]*?)(\w+)\s*\[\s*\]\s*;")
_NAME = re.compile(r"(?:::\s*)?\w+\s*$")
_ARGUMENTS = re.compile(r"\s*\(\s*(\)?)")


def rewrite(source: str) -> str:
    """``kernel<...><<<configuration>>>(arguments)`` as calls of emulated::Launch.

    Arguments are evaluated once, at the launch, and each thread has its copies. Raises ValueError for a
    launch that cannot be read.
    """
    source = _DYNAMIC.sub(r"\1* const \2 = emulated::dynamic_shared<\1>();", source)
    code = _NOT_CODE.sub(lambda found: " " * len(found[0]), source)
    pieces, done = [], 0
    for found in re.finditer("<<<", code):
        begin, end = _kernel_begin(code, found.start()), _configuration_end(code, found.end())
        kernel, configuration = source[begin:found.start()].strip(), source[found.end():end]
        arguments = _ARGUMENTS.match(code, end + len(">>>"))
        if not kernel or not arguments:
            raise ValueError(f"a launch of no kernel or without arguments: {source[begin:end + 20]!r}")
        pieces += [source[done:begin], f"emulated::Launch({configuration})([&](auto&... of_thread) {{ ",
                   f"{kernel}(of_thread...); }}", arguments[1] or ", "]
        done = arguments.end()
    return "".join(pieces) + source[done:]


def _configuration_end(code: str, start: int) -> int:
    depth = 0
    for place in range(start, len(code)):
        depth += (code[place] in "([{") - (code[place] in ")]}")
        if depth == 0 and code.startswith(">>>", place):
            return place
    raise ValueError(f"<<< without >>>: {code[start - 20:start + 40]!r}")


def _kernel_begin(code: str, end: int) -> int:
    """Where what is launched begins: (an expression), or a name with namespaces and template arguments."""
    while True:
        end = len(code[:end].rstrip())
        if code[end - 1] == ")":
            return _opening(code, end - 1, "(", ")")
        if code[end - 1] == ">":
            end = _opening(code, end - 1, "<", ">")
        name = _NAME.search(code[:end])
        if name is None:
            return end
        end = name.start()
        if not name[0].startswith("::") or not re.search(r"[\w>]\s*$", code[:end]):
            return end


def _opening(code: str, end: int, opening: str, closing: str) -> int:
    """Where the bracket opens that closes at ``end``; what is in parentheses between them does not count."""
    depth = inner = 0
    for place in range(end, -1, -1):
        if closing == ">":
            inner += (code[place] == ")") - (code[place] == "(")
        if inner == 0:
            depth += (code[place] == closing) - (code[place] == opening)
        if depth == 0:
            return place
    raise ValueError(f"{closing} without {opening}: {code[max(end - 40, 0):end + 20]!r}")
