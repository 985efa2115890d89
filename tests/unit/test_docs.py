"""The pages that are made from code say what the code says."""

import re
from pathlib import Path

import pytest

from docs import generate

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_generated_page_is_fresh(name):
    """`python -m docs.generate` was run after the last change."""
    assert (TOP / "docs" / name).read_text(encoding="utf-8") == generate.PAGES[name]()


def test_the_settings_table_of_the_readme_is_fresh():
    """The README's table is the settings class."""
    assert (TOP / "README.md").read_text(encoding="utf-8") == generate.readme()


def test_every_link_between_the_pages_leads_somewhere():
    """A file that a page names exists."""
    for page in [TOP / "README.md", *(TOP / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readmes_python_examples_are_python():
    """What is printed can be pasted."""
    blocks = re.findall(r"```python\n(.*?)```", (TOP / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "README.md", "exec")


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    """A lock with hosts, or a path of somebody's machine, would not work elsewhere."""
    for path in [TOP / "requirements.lock", TOP / "requirements-dev.lock", TOP / "pyproject.toml"]:
        text = path.read_text(encoding="utf-8")
        assert "index-url" not in text, path.name
        assert "://" not in text, path.name
