"""Change the machine's code in small ways, one at a time, and see whether the pure tests notice.

    python tests/mutation.py --sample 0.1 --seed 0
    python tests/mutation.py --only policies ledger --sample 1
    python tests/mutation.py --pick policies:17 ledger:206
    python tests/mutation.py --baseline

Not part of the suite and not of CI: a run takes minutes to hours. The mutants are those of
cosmic-ray's operators (``pip install -e '.[mutation]'``), and of one of our own that deletes a
statement. Annotations are left alone. Each mutant runs in a process of its own, forked from this
one when everything but trouper is imported: no file changes, and starting costs next to nothing.

The tests are a fuzz with a fixed seed, for what breaks an invariant, and then `TESTS`: those of
the machine alone, without those that take long. A mutant that needs more than `LIMIT_S` of
processor time goes on for ever, and so is noticed. One that survives is fuzzed once more, for
longer, beside the machine as it is: "the same" means that no instruction differed, and that it may
be equivalent; "differs" asks for a test. Those that are equivalent are explained in
``mutation_survivors.md``.
"""

import argparse
import ast
import hashlib
import importlib
import os
import random
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from difflib import unified_diff
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, TypeVar

from command_line import parser_for

T = TypeVar("T")

TESTS_DIR = Path(__file__).parent
ROOT = TESTS_DIR.parent

MODULES = (
    "transitions",
    "settling",
    "requests",
    "outcomes",
    "ready",
    "peers",
    "ledger",
    "policies",
    "bulk",
    "machine",
)

TESTS = (
    "test_transitions.py",
    "test_outcomes.py",
    "test_requests.py",
    "test_policies.py",
    "test_ready.py",
    "test_ledger.py",
    "test_task.py",
    "test_machine.py",
    "test_snapshot.py",
    "test_bulk.py",
)
"""The pure tests: of the machine, without a clock, a thread or a process."""

TOO_LONG = (
    "AnyStimuli",
    "in_every_process",
    "soak",
    "any_number",
    "freed_from_its_end",
    "thousand",
)
"""Not those whose names have this in them."""

LIMIT_S = 30
"""Processor time of a mutant."""

FUZZ_STEPS, LONG_FUZZ_STEPS = 1200, 6000


# Mutants


class Mutant(NamedTuple):
    """A change of one place in a module."""

    module: str
    number: int
    line: int
    operator: str
    make: Callable[[], str]
    """The module's whole source with the change in it."""

    @property
    def name(self) -> str:
        """What `--pick` takes."""
        return f"{self.module}:{self.number}"

    def __str__(self) -> str:
        return f"{self.name} (line {self.line}, {self.operator})"


def path_of(module: str) -> Path:
    """Where the source of a module is."""
    return ROOT / "runtime" / f"{module}.py"


def mutants_of(module: str) -> list[Mutant]:
    """All mutants of a module, in an order that is always the same."""
    source = path_of(module).read_text()
    spoken = list(annotations(source))
    found: list[Mutant] = []
    for line, column, operator, make in mutations(source):
        if not any(first <= (line, column) < last for first, last in spoken):
            found.append(Mutant(module, len(found), line, operator, make))
    return found


def mutations(source: str) -> Iterator[tuple[int, int, str, Callable[[], str]]]:
    """Line, column, operator and maker of every change, annotations included."""
    plugins: Any = importlib.import_module("cosmic_ray.plugins")
    mutating: Any = importlib.import_module("cosmic_ray.mutating")
    trees: Any = importlib.import_module("cosmic_ray.ast")
    nodes = list(trees.ast_nodes(trees.get_ast(source)))
    for name in plugins.operator_names():
        operator_type = plugins.get_operator(name)
        if operator_type.arguments():
            continue  # for those that are told what to change
        operator = operator_type()
        positions = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (line, column) in enumerate(positions):
            make = partial(mutating.mutate_code, source, operator, occurrence)
            yield line, column, name.rpartition("/")[2], make
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            for statement in ast.walk(node):
                if isinstance(statement, ast.stmt) and has_effect(statement):
                    make = partial(without, source, statement)
                    yield statement.lineno, statement.col_offset, "DeleteStatement", make


def has_effect(statement: ast.stmt) -> bool:
    """Whether a statement does something that would not be missed by its name."""
    match statement:
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete() | ast.Return(value=None):
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            return True
        case _:
            return False


def without(source: str, statement: ast.stmt) -> str:
    """A source with ``pass`` in the place of a statement."""
    assert statement.end_lineno is not None
    lines = source.splitlines(keepends=True)
    first, last = statement.lineno - 1, statement.end_lineno
    before = lines[first][: statement.col_offset]
    after = lines[last - 1][statement.end_col_offset :]
    return "".join([*lines[:first], f"{before}pass{after}", *lines[last:]])


Span = tuple[tuple[int, int], tuple[int, int]]


def annotations(source: str) -> Iterator[Span]:
    """Where a source speaks of types, which do nothing: first and last line and column."""
    for node in ast.walk(ast.parse(source)):
        spoken: list[ast.expr | None] = []
        match node:
            case ast.FunctionDef():
                spoken.append(node.returns)
            case ast.arg():
                spoken.append(node.annotation)
            case ast.AnnAssign():
                spoken.append(node.annotation)
                if ast.unparse(node.annotation) == "TypeAlias":
                    spoken.append(node.value)
            case _:
                pass
        for one in spoken:
            if one is not None:
                assert one.end_lineno is not None
                assert one.end_col_offset is not None
                yield (one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset)


# Runs


class Mutated(SourceFileLoader):
    """Loads a module from another source than stands in its file."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """The module's code, compiled from the given source."""
        return compile(self._source, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds one module of ours with another source."""

    def __init__(self, module: str, source: str) -> None:
        self._name = f"trouper.runtime.{module}"
        self._path = str(path_of(module))
        self._source = source

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Called for every import."""
        if name != self._name:
            return None
        loader = Mutated(name, self._path, self._source)
        return spec_from_file_location(name, self._path, loader=loader)


def in_a_child(work: Callable[[], str], limit_s: int) -> str:
    """What `work` says in a process of its own; "timeout" or "crash" if it does not get there."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        answer = answers.read()
    _, status = os.waitpid(child, 0)
    return answer or ("timeout" if os.WIFSIGNALED(status) else "crash")


def test(module: str, source: str) -> str:
    """Run the tests on a source in place of a module's: "survived", or what has noticed it."""
    sys.meta_path.insert(0, Finder(module, source))
    try:
        fuzz(FUZZ_STEPS)
    except Exception as error:  # noqa: BLE001 - whatever the mutant has led to
        return f"fuzz: {type(error).__name__}"
    pytest: Any = importlib.import_module("pytest")
    options = [
        "-x",
        "-q",
        "--numprocesses=0",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-k",
        f"not ({' or '.join(TOO_LONG)})",
    ]
    seen = Failures()
    code = pytest.main([*options, *[str(TESTS_DIR / name) for name in TESTS]], plugins=[seen])
    return "survived" if code == 0 else f"test: {seen.first}"


class Failures:
    """A plugin of pytest: the name of the first test that failed."""

    first = "not collected"

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by pytest after each part of a test."""
        if report.failed:
            self.first = report.nodeid.rpartition("/")[2]


def fuzz(steps: int) -> str:
    """Send a machine anything, verify everything, and give a digest of all that it has said."""
    soak: Any = importlib.import_module("soak_machine")
    world: Any = importlib.import_module("model").World
    configs: Any = importlib.import_module("monkey").CONFIGS
    rng = random.Random(0)
    digest = hashlib.blake2b(digest_size=16)
    for number in range(steps // 100):
        one = world(configs[number % len(configs)], tangled=bool(number % 2))
        soak.run_episode(rng, one, 100, deque(maxlen=1), digest)
    return digest.hexdigest()


def compare(module: str, source: str) -> str:
    """The digest of a longer fuzz of a source in place of a module's."""
    sys.meta_path.insert(0, Finder(module, source))
    try:
        return fuzz(LONG_FUZZ_STEPS)
    except Exception as error:  # noqa: BLE001 - whatever the mutant has led to
        return type(error).__name__


def judge(mutant: Mutant, reference: str) -> str:
    """What becomes of a mutant."""
    source = mutant.make()
    verdict = in_a_child(lambda: test(mutant.module, source), LIMIT_S)
    if verdict != "survived":
        return verdict
    same = in_a_child(lambda: compare(mutant.module, source), 4 * LIMIT_S) == reference
    return "survived, the same" if same else "survived, differs"


# The command line


def difference(mutant: Mutant) -> str:
    """What a mutant changes, as a diff."""
    before = path_of(mutant.module).read_text().splitlines()
    after = mutant.make().splitlines()
    return "\n".join(list(unified_diff(before, after, n=1, lineterm=""))[2:])


def baseline() -> str:
    """Make sure that the tests pass without a mutant; the digest of the longer fuzz."""
    module = MODULES[0]
    source = path_of(module).read_text()
    start = time.perf_counter()
    verdict = in_a_child(lambda: test(module, source), 4 * LIMIT_S)
    seconds = time.perf_counter() - start
    if verdict != "survived":
        raise SystemExit(f"the tests fail without any mutant: {verdict}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"without a mutant: {seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processor")
    return in_a_child(lambda: compare(module, source), 8 * LIMIT_S)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--sample", type=float, default=0.1, help="fraction (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, metavar="MODULE")
    parser.add_argument("--pick", nargs="+", default=[], metavar="MODULE:NUMBER", help="these only")
    parser.add_argument("--baseline", action="store_true", help="only see that the tests pass")
    return parser.parse_args()


def main() -> None:
    """Run a sample of the mutants, or those that are named."""
    arguments = parse_arguments()
    sys.path[:0] = [str(TESTS_DIR)]
    for name in ("pytest", "hypothesis.stateful", "pytest_trio", "trio.testing", "msgspec"):
        importlib.import_module(name)  # not again in every child
    mutants = [mutant for module in arguments.only for mutant in mutants_of(module)]
    reference = baseline()
    if arguments.baseline:
        return
    if arguments.pick:
        sample = [mutant for mutant in mutants if mutant.name in arguments.pick]
    else:
        sample = shuffled(mutants, arguments.seed)[: round(arguments.sample * len(mutants))]
    print(f"{len(sample)} of {len(mutants)} mutants, seed {arguments.seed}", flush=True)
    tally: Counter[str] = Counter()
    for number, mutant in enumerate(sample, 1):
        verdict = judge(mutant, reference)
        tally[verdict.partition(":")[0]] += 1
        print(f"{number:5} {mutant}: {verdict}", flush=True)
        if verdict.startswith("survived"):
            print(difference(mutant), flush=True)
    print(*[f"{what}: {n}" for what, n in sorted(tally.items())], sep="\n")


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """In an order of chance, of which any beginning is a sample."""
    result = list(items)
    random.Random(seed).shuffle(result)
    return result


if __name__ == "__main__":
    main()
