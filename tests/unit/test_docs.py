"""The pages that are made from code say what the code says."""

import re
from pathlib import Path

import pytest

from docs import generate
from kiejobs.kie import catalogue
from kiejobs.kie.families import FAMILIES

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
    assert len(blocks) == 4
    for block in blocks:
        compile(block, "README.md", "exec")


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    """A lock with hosts, or a path of somebody's machine, would not work elsewhere."""
    for path in [TOP / "requirements.lock", TOP / "requirements-dev.lock", TOP / "pyproject.toml"]:
        text = path.read_text(encoding="utf-8")
        assert "index-url" not in text, path.name
        assert "://" not in text, path.name


def test_every_model_of_an_older_api_names_what_replaced_it():
    """Both ids are in the catalogue; a family that was added has an answer to what holds today."""
    listed = [model for family in FAMILIES for model in family.models]
    assert set(generate.TWINS) <= set(listed)
    for model in [*listed, *generate.TWINS.values()]:
        assert catalogue.find(model), model
    unanswered = {model for model in listed if model not in generate.TWINS and not generate._withdrawn(model)}
    assert unanswered == {model for family in FAMILIES if family.name == "chat" for model in family.models}
