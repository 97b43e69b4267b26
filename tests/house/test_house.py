"""The house rules of the code as tests: floors, doors, sizes, hops, names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "any_agent"

FLOORS: dict[str, int] = {
    "types": 1, "errors": 1,
    "protocols": 2, "hooks": 2, "permissions": 2, "config": 2, "memory": 2, "log": 2, "masking": 2,
    "models": 3, "tokens": 3, "context": 3, "tracing": 3, "testing": 3, "sync": 3, "calibration": 3,
    "tools": 4, "output": 4, "history": 4, "asking": 4,
    "options": 5, "dispatch": 5, "toolkits": 5, "given": 5,
    "loop": 6, "durability": 6, "budget": 6, "tally": 6,
    "session": 7, "conversation": 7, "kept_session": 7, "caller_tools": 7, "live": 7, "wiring": 7, "subagents": 7,
    "agent": 8,
    "client": 9, "compat": 9, "server": 9, "batch": 9, "copy_editor": 9,
    "__init__": 10, "__main__": 10, "cli": 10,
}  # fmt: skip
WINGS = {"toolkits", "compat", "tracing", "testing", "server", "batch", "copy_editor", "cli"}
DOORS = {
    "litellm": {"models/litellm_wrapper.py"},
    "aiohttp": {"models/openai_wire.py", "models/servers/asking.py"},
    "tiktoken": {"tokens.py"},
    "aiosqlite": {"memory/link.py"},
    "psycopg": {"memory/postgres/link.py"},
    "mcp": {"toolkits/mcp.py"},
    "starlette": {"server/"},
    "opentelemetry": {"tracing/otel.py"},
    "openai": set(),
    "harper": {"copy_editor/grammar_engines.py"},
}
WALK = ["types/messages.py", "types/stream.py", "protocols.py", "loop.py", "dispatch.py", "session.py", "agent.py"]
AVOIDED = ("Handler", "Processor", "Helper", "Service", "Base")
PROMISED_NAMES = {"HookHandler"}  # a name of the seeds


def files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Everything in the file."""
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imported(path: Path) -> list[tuple[str, int, bool]]:
    """(absolute module, line, at top level) of every import in the file."""
    return list(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, int, bool]]:
    inside = {id(n) for f in nodes(path) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    package = ["any_agent", *path.relative_to(PACKAGE).parts[:-1]]
    for node in nodes(path):
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, node.lineno, top
            if module in ("any_agent", "any_agent.models"):
                yield from ((f"{module}.{alias.name}", node.lineno, top) for alias in node.names)


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    for module, line, _ in imported(path):
        parts = module.split(".")
        if parts[0] == "any_agent" and len(parts) > 1 and parts[1] in FLOORS:
            yield parts[1], line


def test_every_room_has_a_floor() -> None:
    assert {room(p) for p in files()} <= FLOORS.keys()


@pytest.mark.parametrize("page", ["AGENTS.md", "docs/architecture.md"])
def test_the_page_names_every_room_on_its_floor(page: str) -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", (ROOT / page).read_text(), re.MULTILINE)
    told = {name: int(floor) for floor, cell in rows for name in re.findall(r"`(\w+)[/*]*`", cell) if name in FLOORS}
    rooms = {room(p) for p in files()}
    assert {name: floor for name, floor in told.items() if name in rooms} == {name: FLOORS[name] for name in rooms}


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    here = room(path)
    for target, line in own_imports(path):
        if target == here or here in ("__init__", "__main__"):
            continue
        assert FLOORS[target] <= FLOORS[here], f"{path.name}:{line} ({here}) imports {target} from a higher floor"
        if here not in WINGS:
            assert target not in WINGS, f"{path.name}:{line}: the core imports the wing {target}"
        elif here != "cli" and target in WINGS:
            pytest.fail(f"{path.name}:{line}: the wing {here} imports the wing {target}")


def test_no_two_rooms_import_each_other() -> None:
    edges = {(room(p), target) for p in files() for target, _ in own_imports(p) if target != room(p)}
    circles = sorted((a, b) for a, b in edges if (b, a) in edges and a < b)
    assert circles == []


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_come_in_by_one_door(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    type_checking = _type_checking_lines(path)
    for module, line, top in imported(path):
        doors = DOORS.get(module.split(".")[0])
        if doors is None or line in type_checking:
            continue
        assert any(name == d or (d.endswith("/") and name.startswith(d)) for d in doors), (
            f"{name}:{line} imports {module}"
        )
        assert not top, f"{name}:{line} imports {module} at the top"


def _type_checking_lines(path: Path) -> set[int]:
    lines: set[int] = set()
    for node in nodes(path):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path.name} has {text.count(chr(10))} lines"
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{path.name}:{node.lineno} {node.name} has {length} lines"


def test_the_walk_is_short() -> None:
    sizes = {name: (PACKAGE / name).read_text().count("\n") for name in WALK}
    assert sum(sizes.values()) <= 1500, sizes


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_names_use_the_words_of_the_house(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.ClassDef) and node.name not in PROMISED_NAMES:
            bare = node.name.lstrip("_")
            assert not any(w in bare for w in AVOIDED), f"{path.name}: {node.name}"
            assert not bare[-1].isdigit(), f"{path.name}: numbered name {node.name}"


def test_nothing_is_left_unfinished() -> None:
    marks = ("TODO", "FIXME", "XXX", "not implemented yet")
    found = [f"{p.name}:{m}" for p in files() for m in marks if m in p.read_text()]
    assert found == []


def test_tests_never_patch() -> None:
    words = ("unittest." + "mock", "mocker" + ".", "monkeypatch" + ".setattr")
    found = [str(p) for p in (ROOT / "tests").rglob("*.py") for w in words if w in p.read_text()]
    assert found == []


PROBE = """
import sys, os, threading, resource
before = set(sys.modules)
opened = []
sys.addaudithook(lambda event, args: opened.append((event, str(args)[:80]))
                 if event.startswith("socket.") or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")) else None)
{work}
heavy = {{"litellm","aiohttp","tiktoken","aiosqlite","mcp","starlette","opentelemetry","openai","httpx","harper","numpy"}} & set(sys.modules)
print(len(set(sys.modules) - before), sorted(heavy), opened, threading.active_count())
"""


def probe(work: str) -> tuple[int, str]:
    out = subprocess.run([sys.executable, "-c", PROBE.format(work=work)], capture_output=True, text=True, check=True)
    assert out.stderr == ""
    count, rest = out.stdout.strip().split(" ", 1)
    return int(count), rest


def test_import_is_light() -> None:
    modules, rest = probe("import any_agent")
    assert rest == "[] [] 1", rest
    assert modules <= 60, modules


def test_agent_and_options_are_light() -> None:
    modules, rest = probe("import any_agent; any_agent.Agent; any_agent.AgentOptions; any_agent.tool; any_agent.Client")
    assert rest == "[] [] 1", rest
    assert modules <= 340, modules


def test_making_an_agent_does_no_io() -> None:
    _, rest = probe(
        "from any_agent import Agent; Agent('some-model', base_url='http://127.0.0.1:9/v1', system_prompt='x')"
    )
    assert rest == "[] [] 1", rest


def test_public_names_resolve_and_are_listed() -> None:
    import any_agent

    for name in any_agent.__all__:
        assert getattr(any_agent, name) is not None
    assert set(any_agent.__all__) <= set(dir(any_agent))
    with pytest.raises(AttributeError, match="no_such_name"):
        any_agent.no_such_name  # noqa: B018


def test_the_public_names_have_types() -> None:
    """A type checker reads the imports under TYPE_CHECKING; a star only where `__all__` is a plain list."""
    import any_agent

    path = PACKAGE / "__init__.py"
    lines, known = _type_checking_lines(path), {"DISTRIBUTION", "__version__"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.lineno in lines:
            known |= {alias.asname for alias in node.names if alias.asname}
            if node.names[0].name == "*":
                room = ast.parse((PACKAGE / str(node.module) / "__init__.py").read_text())
                lists = [ast.literal_eval(one.value) for one in room.body if _assigns(one, "__all__")]
                known |= {name for names in lists for name in names}
    assert set(any_agent.__all__) - known == set()


def _assigns(node: ast.stmt, name: str) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
