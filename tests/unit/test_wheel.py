"""What is installed from the wheel: the files beside the modules, too, and nothing of the checkout around them."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
BESIDE = (".html", ".css", ".js", ".svg", ".toml", ".mako", ".mp3", ".mp4", ".typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel that is built from a copy of the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, place)
    for name in ("kiejobs", "workers"):
        shutil.copytree(TOP / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import setuptools.build_meta as build; print(build.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=place, check=True, capture_output=True)
    with zipfile.ZipFile(next((place / "dist").glob("*.whl"))) as made:
        return set(made.namelist())


def test_every_file_beside_the_modules_is_in_the_wheel(wheel):
    """A page without its template, or a migration without its script, would break only where it is installed."""
    files = {path for path in (TOP / "kiejobs").rglob("*") if path.suffix in BESIDE or path.name == "py.typed"}
    beside = {str(path.relative_to(TOP)) for path in files}
    assert {"kiejobs/gateway/pages/templates/base.html", "kiejobs/gateway/pages/static/live.js"} <= beside
    assert beside - wheel == set()


def test_every_module_is_in_the_wheel_and_no_worker(wheel):
    """`workers` is a name that must not land among other people's packages."""
    modules = {str(path.relative_to(TOP)) for path in (TOP / "kiejobs").rglob("*.py")}
    assert modules - wheel == set()
    assert [name for name in wheel if name.startswith("workers")] == []
