"""Writes a policy as one C header, for programs without any runtime: `python generate.py policy.npz > policy.h`.

It reads what `ppo2 export RUN --numpy policy.npz` wrote, with NumPy and the reader npz_policy.py that lies beside it.
The header has a function `policy` of one observation (a batch of one): its arguments are the inputs, then the outputs,
in the order in which the comment above it lists them. Without convolutions; those are better left to a runtime.
"""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {"float32": "float", "float64": "double", "bool": "unsigned char"} | {
    f"{kind}{bits}": f"{kind}{bits}_t" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
EACH = {
    "Add": "{0} + {1}", "Sub": "{0} - {1}", "Mul": "{0} * {1}", "Div": "{0} / {1}", "Max": "{0} > {1} ? {0} : {1}",
    "Min": "{0} < {1} ? {0} : {1}", "Pow": "powf({0}, {1})", "Neg": "-{0}", "Abs": "fabs({0})", "Exp": "expf({0})",
    "Floor": "floorf({0})", "Ceil": "ceilf({0})", "Log": "logf({0})", "Sqrt": "sqrtf({0})", "Reciprocal": "1 / {0}",
    "Sin": "sinf({0})", "Cos": "cosf({0})", "Tanh": "tanhf({0})", "Sigmoid": "1 / (1 + expf(-{0}))", "Erf": "erff({0})",
    "Sign": "({0} > 0) - ({0} < 0)", "Equal": "{0} == {1}", "Less": "{0} < {1}", "LessOrEqual": "{0} <= {1}",
    "Greater": "{0} > {1}", "GreaterOrEqual": "{0} >= {1}", "And": "{0} && {1}", "Or": "{0} || {1}", "Not": "!{0}",
    "Where": "{0} ? {1} : {2}", "Cast": "{0}", "Identity": "{0}",
}  # fmt: skip
"""Expressions of operators that work number by number."""
FOLDED = {"ReduceSum": "+=", "ReduceProd": "*=", "ReduceMax": "max", "ReduceMin": "min"}
MOVED = {"Reshape", "Transpose", "Expand", "Slice", "Gather"}
"""Operators that only move the numbers of their first input."""


def generate(path: Path) -> str:
    """The header for an .npz file."""
    sys.path.insert(0, str(path.parent))  # where the reader is
    from npz_policy import OPERATORS, Policy  # type: ignore[import-not-found]

    policy = Policy(path)
    about = policy.about
    arrays = {name: np.zeros([1, *of["shape"][1:]], of["dtype"]) for name, of in about["inputs"].items()}
    arguments = list(arrays)
    arrays |= policy._arrays
    constants, body = set(policy._arrays), list[str]()
    with np.errstate(all="ignore"):
        for operator, reads, name, settings in about["nodes"]:
            arrays[name] = np.asarray(OPERATORS[operator](*[arrays[read] for read in reads], **settings))
            if name not in about["outputs"] and (operator == "Shape" or constants.issuperset(reads)):
                constants.add(name)
            else:
                body += translated(operator, reads, name, settings, arrays, OPERATORS)
    outputs = list(about["outputs"])
    used = "\n".join(body)
    made = [name for _, _, name, _ in about["nodes"] if name not in constants and name not in outputs]
    declared = [declaration(name, arrays[name], numbers=True) for name in sorted(constants) if f"{c(name)}[" in used]
    declared += [declaration(name, arrays[name], numbers=False) for name in made]
    of = [f"const {TYPES[str(arrays[name].dtype)]} *{c(name)}" for name in arguments]
    of += [f"{TYPES[str(arrays[name].dtype)]} *{c(name)}" for name in outputs]
    listed = [f"   {name}: {TYPES[str(arrays[name].dtype)]}[{arrays[name].size}]" for name in (*arguments, *outputs)]
    signature = f"static void policy({', '.join(of)}) {{"
    comment = ["/* Inputs, then outputs:", *listed, "*/"]
    lines = ["#include <math.h>", "#include <stdint.h>", "", *declared, "", *comment, signature, *body, "}", ""]
    return "\n".join(lines)


def c(name: str) -> str:
    """A name as C has it."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def declaration(name: str, array: Any, *, numbers: bool) -> str:
    """The definition of an array, with its numbers if they don't change."""
    kind = TYPES[str(array.dtype)]
    if not numbers:
        return f"static {kind} {c(name)}[{array.size}];"
    texts = (x.hex() if isinstance(x, float) else str(int(x)) for x in array.ravel().tolist())
    written = ", ".join({"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}.get(text, text) for text in texts)
    return f"static const {kind} {c(name)}[{array.size}] = {{{written}}};"


def translated(operator: str, reads: Any, name: str, settings: Any, arrays: Any, operators: Any) -> list[str]:
    """The lines of C for one operator."""
    out, inputs = arrays[name], [arrays[read] for read in reads]
    names, to = [c(read) for read in reads], c(name)
    if operator in EACH:
        numbers = [f"{of}[{place(x.shape, out.shape)}]" for of, x in zip(names, inputs, strict=True)]
        return [f"  for (int i = 0; i < {out.size}; i++) {to}[i] = {EACH[operator].format(*numbers)};"]
    if operator == "MatMul" and inputs[1].ndim == 2:
        inner, columns = inputs[1].shape
        return [
            f"  for (int i = 0; i < {out.size // columns}; i++) for (int j = 0; j < {columns}; j++) {{",
            f"    float sum = 0; for (int k = 0; k < {inner}; k++)",
            f"      sum += {names[0]}[i * {inner} + k] * {names[1]}[k * {columns} + j];",
            f"    {to}[i * {columns} + j] = sum; }}",
        ]
    if operator in MOVED or operator == "Concat":  # found by moving the numbers' places
        ends = np.cumsum([x.size for x in inputs])
        places = [np.arange(x.size).reshape(x.shape) + end - x.size for x, end in zip(inputs, ends, strict=True)]
        count = len(inputs) if operator == "Concat" else 1
        moved = np.asarray(operators[operator](*places[:count], *inputs[count:], **settings)).ravel()
        if count == 1 and np.array_equal(moved, np.arange(moved.size)):
            return [f"  for (int i = 0; i < {moved.size}; i++) {to}[i] = {names[0]}[i];"]
        origins = np.searchsorted(ends[:count], moved, side="right")
        firsts = [end - x.size for end, x in zip(ends, inputs, strict=True)]
        return [
            f"  {to}[{i}] = {names[at]}[{place - firsts[at]}];"
            for i, (place, at) in enumerate(zip(moved, origins, strict=True))
        ]
    if operator in FOLDED or operator == "ArgMax":
        axes = (settings["axis"],) if operator == "ArgMax" else tuple(inputs[1].tolist())
        spots = np.moveaxis(np.arange(inputs[0].size).reshape(inputs[0].shape), axes, range(-len(axes), 0))
        rows = spots.reshape(out.size, -1)
        return [line for i, row in enumerate(rows.tolist()) for line in folded(operator, names[0], f"{to}[{i}]", row)]
    raise SystemExit(f"this generator has no C for the operator {operator}; a runtime for ONNX has")


def folded(operator: str, of: str, to: str, row: list[int]) -> list[str]:
    """The lines of C that reduce some numbers to one."""
    table = f"static const int places[] = {{{', '.join(map(str, row))}}};"
    if operator == "ArgMax":
        step = f"if ({of}[places[j]] > {of}[places[{to}]]) {to} = j"
        return [f"  {{ {table} {to} = 0; for (int j = 1; j < {len(row)}; j++) {step}; }}"]
    sign = FOLDED[operator]
    compared = f"if ({of}[places[j]] {'>' if sign == 'max' else '<'} {to}) {to} = {of}[places[j]]"
    step = f"{to} {sign} {of}[places[j]]" if sign.endswith("=") else compared
    return [f"  {{ {table} {to} = {of}[places[0]]; for (int j = 1; j < {len(row)}; j++) {step}; }}"]


def place(shape: tuple[int, ...], stretched: tuple[int, ...]) -> str:
    """The index, in an array that is stretched to another shape, of the number that goes to index i of that."""
    if int(np.prod(shape)) == 1:
        return "0"
    if shape == stretched:
        return "i"
    strides = np.cumprod([1, *stretched[::-1]])[-2::-1].tolist()
    own = np.cumprod([1, *shape[::-1]])[-2::-1].tolist()
    offset, terms = len(stretched) - len(shape), list[str]()
    for axis, size in enumerate(shape):
        if size > 1:
            terms.append(f"i / {strides[axis + offset]} % {size} * {own[axis]}")
    return " + ".join(terms)


if __name__ == "__main__":
    print(generate(Path(sys.argv[1])), end="")
