"""The house keeps its order: who imports whom, which outside library comes in where, how long a file may be."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Floors from the ground up. A room imports rooms of lower floors only; the files of one room (a folder, or
# `report.py` with `report_figures.py`) may import each other. A new file gets its floor here.
FLOORS = (
    ("__init__",),
    ("columns", "frequency", "allocator", "denormals", "threads", "secrets"),
    ("config",),
    ("frame", "metrics"),
    ("table", "sources"),
    ("quality",),
    ("ingest", "guess", "upkeep"),
    ("quarantine",),
    ("panel",),
    ("windows", "seasons"),
    ("task",),
    ("nn",),
    ("batches",),
    ("fitted",),
    ("learner",),
    ("recurrent", "baselines", "combination"),
    ("training",),
    ("forecast", "inspection"),
    ("stream",),
    ("backtest",),
    ("forecaster", "search"),
    ("store",),
    ("packing", "runs"),
    ("registry", "report", "ledger", "bundle"),
    ("promotion",),
    ("flows",),
    ("cli",),
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}

# The common language (numpy where one of its two speakers hands over to a library), and for every other outside
# library the rooms that are its door.
# What the package shows at its front, loaded when it is asked for.
SHOWN = {"rnnforecast": {"rnnforecast.forecaster"}}
LANGUAGE = {"polars", "torch", "numpy"}
DOORS = {
    "deltalake": {"table"},
    "mlflow": {"store", "bundle", "packing", "runs", "registry", "promotion"},
    "optuna": {"search"},
    "pandas": {"sources", "baselines", "bundle"},
    "plotly": {"report"},
    "prefect": {"flows"},
    "pydantic": {"config"},
    "pytorch_lightning": {"learner", "training"},
    "rich": {"cli"},
    "safetensors": {"recurrent", "stream"},
    "scipy": {"nn"},
    "sqlalchemy": {"store"},
    "statsforecast": {"baselines"},
    "typer": {"cli"},
    "utilsforecast": {"metrics"},
    "yaml": {"config", "guess"},
    # The clients of the sources.
    "adbc_driver_manager": {"sources"},
    "adbc_driver_postgresql": {"sources"},
    "adbc_driver_sqlite": {"sources"},
    "confluent_kafka": {"sources"},
    "fastavro": {"sources"},
    "httpx": {"sources"},
    "obstore": {"sources"},
    "pyarrow": {"sources", "forecast"},
    "paho": {"sources"},
    # The packaged data sets.
    "arch": {"sources"},
    "river": {"sources"},
    "statsmodels": {"sources"},
}


def module_name(file: Path) -> str:
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "flows":
        parts.insert(0, "rnnforecast")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for top in ("rnnforecast", "flows") for file in sorted((ROOT / top).rglob("*.py"))}


def room(module: str) -> str:
    """The room of one of our modules: its folder, its file, or the part of its name before an underscore."""
    name = [*module.split("."), "__init__"][1]
    return name if name in FLOOR else name.split("_")[0]


def imports(source: str, package: str) -> set[str]:
    """Every module that a text imports, inside functions and by `import_module` as well."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                found.add(str(node.args[0].value))
    return found


def imports_of(module: str) -> set[str]:
    file = MODULES[module]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return imports(file.read_text(encoding="utf-8"), package) - SHOWN.get(module, set())


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "rnnforecast"}


@pytest.mark.parametrize("module", MODULES)
def test_every_room_imports_only_rooms_of_lower_floors(module):
    here = room(module)
    assert here in FLOOR, f"{MODULES[module].relative_to(ROOT)} has no floor: give `{here}` one in FLOORS of {__file__}"
    others = {name for name in ours(imports_of(module)) if room(name) != here}
    wrong = {name for name in others if FLOOR.get(room(name), len(FLOORS)) >= FLOOR[here]}
    assert not wrong, f"{module} (floor {FLOOR[here]}) imports {sorted(wrong)}, which stand as high or higher"


def test_no_module_imports_itself_in_a_circle():
    graph = {module: ours(imports_of(module)) for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", MODULES)
def test_every_outside_library_comes_in_by_its_door(module):
    outside = {name.split(".")[0] for name in imports_of(module)} - {"rnnforecast"} - LANGUAGE - sys.stdlib_module_names
    wrong = {library for library in outside if room(module) not in DOORS.get(library, set())}
    told = {library: sorted(DOORS.get(library, {"no room yet"})) for library in sorted(wrong)}
    assert not wrong, f"{module} imports {sorted(wrong)} itself; their doors: {told}"


def test_the_import_reader_sees_every_way_to_import():
    text = """
import torch.nn as nn, json
from rnnforecast import config, __version__
from rnnforecast.nn import encoder
from . import frame
from .sources import base
def later():
    from mlflow.pyfunc import load_model
    importlib.import_module("prefect.flows")
"""
    expected = "torch.nn json rnnforecast rnnforecast.config rnnforecast.nn.encoder rnnforecast.frame"
    expected += " rnnforecast.sources.base mlflow.pyfunc prefect.flows"
    assert imports(text, "rnnforecast") == set(expected.split())
    assert imports("from ..columns import KEY", "rnnforecast.nn") == {"rnnforecast.columns"}


@pytest.mark.parametrize("folder", ["data", "mlflow"])
def test_no_python_lies_where_it_would_shadow_a_library(folder):
    """What a run keeps there (a bundle.py deep among the artifacts) is ignored by git and shadows nothing."""
    tracked = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert not [name for name in tracked.splitlines() if name.endswith(".py")]
    assert not list((ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_files_and_parameter_lists_stay_short(module):
    text = MODULES[module].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350, f"{module} is longer than 350 lines: divide it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            assert count <= 8, f"{module}.{node.name} (line {node.lineno}) has {count} parameters; 8 at most"


# What each may have loaded once it is done, of all libraries that have a door, and the common language.
COMMAND = "from rnnforecast.cli import main; main(sys.argv[1:])"
FILE = {"polars", "pydantic", "yaml"}  # what reading a pipeline file needs
TABLE = FILE | {"deltalake", "pyarrow", "numpy"}
FLOW = {*TABLE, "prefect", "typer", "rich", "httpx"}  # Prefect brings the last three
STORE = FILE | {"mlflow", "sqlalchemy", "numpy", "pandas", "scipy", "pyarrow"}  # MLflow brings the last three
LOADED = [
    ([COMMAND, "--help"], {"typer", "rich"}),
    ([COMMAND, "--version"], {"typer", "rich"}),
    ([COMMAND, "ingest", "--help"], {"typer", "rich", "pydantic"}),  # typer looks for it
    ([COMMAND, "schema"], {"typer", "rich", *FILE}),
    ([COMMAND, "models"], {"typer", "rich", *FILE}),
    (["import rnnforecast.config"], FILE),
    (["import rnnforecast.ingest"], TABLE),
    (["import rnnforecast.flows.ingest"], FLOW),
    (["import rnnforecast.cli_table"], {*TABLE, "rich"}),
    (["import rnnforecast.registry"], STORE),  # `versions`
    (["import rnnforecast.flows.upkeep"], FLOW | STORE),
    (["import rnnforecast.forecast"], {*FILE, "torch", "numpy", "scipy", "safetensors", "pyarrow"}),  # serving
]


@pytest.mark.parametrize(("given", "allowed"), LOADED, ids=[" ".join(given)[-40:] for given, _ in LOADED])
def test_libraries_are_loaded_only_where_they_are_used(given, allowed):
    code = f"import sys; {given[0]}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *given[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "rnnforecast" in loaded
    assert loaded & (set(DOORS) | LANGUAGE) <= allowed
