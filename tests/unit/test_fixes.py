"""Commands that are printed to be pasted, read from our own source: they name what exists, and quote paths."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FILES = [file for package in ("dataprep", "train") for file in (REPOSITORY / package).rglob("*.py")]


def literals() -> Iterator[str]:
    """Every text of our source, what is filled in as {its expression}."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr | ast.Constant) and isinstance(getattr(node, "value", ""), str):
                yield file.name + ": " + ast.unparse(node)


def test_each_module_and_flag_in_a_command_exists() -> None:
    commands = [found for text in literals() for found in re.findall(r"-m ((?:dataprep|train)\.\w+)([^;#`]*)", text)]
    assert len(commands) > 100
    assert [module for module, _ in commands if importlib.util.find_spec(module) is None] == []
    ours = "".join(file.read_text() for file in FILES)
    flags = {flag for _, rest in commands for flag in re.findall(r" (--[a-z][a-z-]+)", rest.partition("torchrun")[0])}
    assert [flag for flag in flags - {"--help"} if f'"{flag}"' not in ours] == []


def test_a_path_in_a_shell_command_is_quoted() -> None:
    verbs = r"(?:rm|rm -f|rm -r|mv|ls|mkdir|df -h|findmnt -T|sed -\w \{\w+\}\w|openssl [\w -]+>) \{"
    found = [text for text in literals() if re.search(rf"[ '\"]{verbs}", text)]
    assert len(found) > 15
    assert [text for text in found if re.search(rf"[ '\"]{verbs}(?!quoted\()", text)] == []
