"""JAX's loops of a fixed number of steps, step by step."""

from ppo2.deployment.translations import sliced
from ppo2.deployment.translator import Translation, Translator, require
from ppo2.numerics.traced import Operation, Value, called

MOST_STEPS = 256
"""Steps up to which a loop is written out. A policy sees one observation; longer loops are rather a fault."""


def _scan(t: Translator, operation: Operation) -> None:
    settings, length = operation.settings, operation.settings["length"]
    require(operation, 1 <= length <= MOST_STEPS)
    fixed, carried = settings["num_consts"], settings["num_carry"]
    consts, xs = operation.arguments[:fixed], operation.arguments[fixed + carried :]
    carry, rows = operation.arguments[fixed : fixed + carried], list[list[Value]]()
    for step in reversed(range(length)) if settings["reverse"] else range(length):
        operations, results = called(settings["jaxpr"], [*consts, *carry, *(_row(t, x, step) for x in xs)])
        for one in operations:
            t.translate(one)
        carry = results[:carried]
        rows.append(results[carried:])
    rows = rows[::-1] if settings["reverse"] else rows
    for result, value in zip(operation.results, carry, strict=False):
        t.let(result, t.tensor(value))
    for result, parts in zip(operation.results[carried:], zip(*rows, strict=True), strict=True):
        whole = [t.reshaped(t.whole(part), (1, *part.shape)) for part in parts]
        t.let(result, whole[0] if length == 1 else t.add("Concat", whole, result.shape, axis=0))


def _row(t: Translator, x: Value, step: int) -> Value:
    """A row of an array."""
    tensor = t.whole(x)
    row = Value(x, varies=True)
    row.shape = x.shape[1:]
    starts, ends = ((step, *[0] * len(row.shape)), (step + 1, *row.shape))
    cut = sliced(t, tensor, starts, ends, [1] * len(x.shape), (1, *row.shape))
    t.let(row, t.reshaped(cut, row.shape))
    return row


LOOPS: dict[str, Translation] = {"scan": _scan}
"""Functions that add the operators of an operation, by its name."""
