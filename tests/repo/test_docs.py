"""The documentation tells what is there: hooks, commands, components, links. Nothing is built."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache

import pytest
from places import ROOT

from medtl.plugins.catalog import load_catalog
from medtl.plugins.loader import COMPONENT_KINDS

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

from medtl_docs import components, hooks, prose, shell, writer  # noqa: E402

#: What is read as prose beside docs/.
OTHERS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "plugins/*/README.md",
    "examples/third_party/*/README.md",
)
SPECIFIED = {
    node.name: node
    for node in ast.parse((ROOT / "medtl" / "plugins" / "hookspecs.py").read_text()).body
    if isinstance(node, ast.FunctionDef)
}


@cache
def generated() -> dict[str, str]:
    return writer.generated_pages()


@cache
def pages() -> dict[str, str]:
    """All of docs/, as it will be built."""
    return {**prose.written_pages(DOCS), **generated()}


@cache
def texts() -> dict[str, str]:
    """Path below the root -> what people wrote there."""
    others = [path for pattern in OTHERS for path in sorted(ROOT.glob(pattern))]
    found = {path.relative_to(ROOT).as_posix(): path.read_text() for path in others}
    written = {name: text for name, text in pages().items() if name not in generated()}
    return found | {f"docs/{name}": text for name, text in written.items()}


@pytest.mark.parametrize("hook", SPECIFIED)
def test_hook_is_documented_with_its_exact_arguments(hook: str) -> None:
    assert ast.get_docstring(SPECIFIED[hook])
    arguments = ast.unparse(SPECIFIED[hook].args)
    returned = ast.unparse(SPECIFIED[hook].returns or ast.Constant(None))
    shown = f".. py:function:: medtl.plugins.hookspecs.{hook}({arguments}) -> {returned}"
    assert shown.replace("Component", "medtl.Component") in generated()["hooks.md"]


@pytest.mark.parametrize("hook", SPECIFIED)
def test_hook_is_exercised(hook: str) -> None:
    """By a bundled plugin, whose line the page names."""
    used = [use for use in hooks.bundled_uses() if use.hook == hook]
    assert used
    for use in used:
        line = (ROOT / use.path).read_text().splitlines()[use.line - 1]
        assert line.startswith(f"def {hook}(")
        assert f"| `{use.path}` | {use.line} |" in generated()["hooks.md"]


def test_every_command_has_a_page() -> None:
    for component in load_catalog().commands.values():
        assert generated()[f"commands/{component.name}.md"].startswith(f"# medtl {component.name}")


def help_text(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    from typer.main import get_command

    from medtl.cli.main import app

    command = get_command(app)
    command.main([*words, "--help"], prog_name="medtl", standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(load_catalog().commands))
def test_page_has_the_options_of_help(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    name = command.partition(":")[2]
    page = generated()[f"commands/{name}.md"]
    sections = re.split(rf"^## medtl {name} (\S+)$", page, flags=re.MULTILINE)
    for words, section in [([], sections[0]), *zip(sections[1::2], sections[2::2], strict=True)]:
        shown = help_text(capsys, name, *([words] if words else []))
        table, _, _ = section.partition("## Settings")
        listed = re.findall(r"^\| `([^`]*)` \|", table, flags=re.MULTILINE)
        documented = {option for row in listed for option in re.findall(r"--?[a-z][\w-]*", row)}
        rows = re.findall(r"^│[ *]+(-.*)$", shown, flags=re.MULTILINE)
        heads = [re.match(r"(?:--?[a-z][\w-]*\s+)+", row) for row in rows]
        assert documented == {option for head in heads if head for option in head[0].split()}
        assert documented  # --help at least


@pytest.mark.parametrize("kind", [kind for kind in COMPONENT_KINDS if kind != "commands"])
def test_every_component_has_a_page(kind: str) -> None:
    offered = components.bundled(kind)
    assert offered
    index = generated()[f"components/{components.slug(kind)}/index.md"]
    for component in offered.values():
        page = generated()[f"components/{components.slug(kind)}/{component.name}.md"]
        assert page.startswith(f"# {component.name}\n")
        assert component.target.replace(":", ".") in page
        assert f"({component.name}.md)" in index


def test_every_name_of_the_api_is_in_the_reference() -> None:
    from medtl import api

    listed = re.findall(r":: medtl\.api\.(\w+)", pages()["reference/api.md"])
    assert sorted(listed) == sorted(api.__all__)


def test_every_kind_of_finding_is_on_the_page_of_audits() -> None:
    from medtl.audit.kinds import KINDS

    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \|", pages()["howto/audit.md"], re.MULTILINE)
    assert dict(rows) == {kind.name: kind.severity for kind in KINDS.values()}


def test_plans_and_parameters_stand_on_the_pages() -> None:
    # https://pytorch.org/vision/stable/models: ResNet-18 and VGG-16 for the 1,000 ImageNet classes
    assert "**11,689,512**" in generated()["components/networks/resnet18.md"]
    assert "**138,357,544**" in generated()["components/networks/vgg16.md"]
    plan = generated()["components/strategies/modality-transfer.md"]
    for stage, steps in (("source", 100), ("adapt", 50), ("unfreeze", 50)):
        assert re.search(rf"\| `{stage}` \| \S+ \| {steps} \|", plan)


def example_names() -> frozenset[str]:
    """What the third party's example offers, which is not installed here."""
    sources = [path.read_text() for path in ROOT.glob("examples/third_party/*/medtl_*/plugin.py")]
    return frozenset(re.findall(r"Component\(\s*\"([^\"]+)\"", "".join(sources)))


def test_every_command_in_prose_is_one_that_medtl_takes() -> None:
    found = [(name, line) for name, text in texts().items() for line in shell.lines_of(text)]
    assert len(found) > 50
    wrong = [(name, str(line), shell.problem(line, example_names())) for name, line in found]
    assert [each for each in wrong if each[2]] == []


@pytest.mark.parametrize(
    "command",
    [
        "medtl trian brats",
        "medtl train brats --stategy fine-tune",
        "medtl train brats --strategy modality-transfr",
        "medtl train brain",
        "medtl train brats --steps many",
        "medtl train brats --set loss=dice",
        "medtl train brats --set los=dice-ce",
        "medtl train brats --src flair,sit:A",
        "medtl shift --features text",
        "cd x && .venv/bin/medtl predict runs/a",
        "srun python -m medtl train brats --nodes 3",
    ],
)
def test_a_wrong_command_in_prose_is_found(command: str) -> None:
    (line,) = shell.lines_of(f"```bash\n{command}\n```\n")
    assert shell.problem(line)


def test_running_text_may_hold_placeholders_but_no_unknown_names() -> None:
    text = "`medtl COMMAND --help`, `medtl list tasks|networks`, `medtl data phantom DIR --sites N`"
    assert [shell.problem(line) for line in shell.lines_of(text)] == ["", "", ""]
    text = "`medtl lst`, `medtl list tasks|nets`, `medtl data phantom DIR --size|--sits N`"
    assert all(shell.problem(line) for line in shell.lines_of(text))


def test_what_a_console_printed_is_no_command() -> None:
    assert list(shell.lines_of("```console\n$ medtl list\nmedtl 0.1.0\n```\n")) == [
        shell.Line(("list",), whole=True)
    ]


def test_every_relative_link_leads_somewhere() -> None:
    examples = {f"docs/examples/{path.stem}" for path in ROOT.glob("examples/plot_*.py")}
    examples.add("docs/examples/index")
    made = {f"docs/{name}": text for name, text in generated().items()}
    broken = []
    for name, text in (texts() | made).items():
        # Whoever reads the sources elsewhere finds no page that only the build makes.
        known = texts() | (made if name.startswith("docs/") else {})
        for link in prose.links_of(text):
            path, _, anchor = link.partition("#")
            target = prose.resolved(name, path) if path else name
            there = target in known or (ROOT / target).exists() or _stem(target) in examples
            drawn = target.startswith("docs/_figures/")
            if not (there or drawn) or (
                anchor and target in known and anchor not in prose.anchors_of(known[target])
            ):
                broken.append(f"{name}: {link}")
    assert broken == []


def _stem(target: str) -> str:
    return target.rpartition(".")[0]


def test_every_page_is_in_a_table_of_contents() -> None:
    assert set(pages()) - prose.listed_pages(pages()) == {"index.md"}


def test_what_looks_like_a_doctest_is_one() -> None:
    """Sphinx runs ``>>>`` only in blocks that are marked for it."""
    for name, text in texts().items():
        unmarked = re.findall(r"^```(?!\{(?:doctest|eval-rst)\})[^\n]*\n>>> ", text, re.MULTILINE)
        assert not unmarked, name
