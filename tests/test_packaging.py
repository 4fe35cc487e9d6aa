"""What a wheel holds: `rnnforecast` and nothing else, with all that it needs to run from another folder."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout, built from a copy with traps in it; without a network."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("rnnforecast", "flows", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for trap in ("data/trap.py", "mlflow/__init__.py", "tests/trap.py", "benchmarks/trap.py"):
        (copy / trap).parent.mkdir()
        (copy / trap).write_text("raise AssertionError('this file is no part of the package')\n")
    out = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", out]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, copy], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    (file,) = out.glob("*.whl")
    return file


def test_nothing_but_rnnforecast_lands_at_the_top_of_site_packages(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"rnnforecast" if top.endswith(".dist-info") else top for top in tops} == {"rnnforecast"}


def test_every_module_type_marker_and_pipeline_file_is_inside(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = {file.relative_to(ROOT).as_posix() for file in (ROOT / "rnnforecast").rglob("*.py")}
    flows = {f"rnnforecast/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "flows").rglob("*.py")}
    pipelines = {f"rnnforecast/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "flows").rglob("*.yaml")}
    assert {f"rnnforecast/flows/pipelines/{name}.yaml" for name in ("climate", "finance", "signal")} <= pipelines
    assert package | flows | pipelines | {"rnnforecast/py.typed"} <= inside
    assert not [name for name in inside if "trap" in name or "setup" in name]


def test_the_installed_package_and_its_flows_import_from_any_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import rnnforecast.config, rnnforecast.flows\n"
        "print(rnnforecast.config.__file__, rnnforecast.flows.__file__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert all(Path(place).is_relative_to(tmp_path / "site") for place in ran.stdout.split())
