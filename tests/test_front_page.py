"""What the README tells a newcomer to type is what CI runs."""

import re


def test_ci_runs_the_two_commands_of_the_front_page(repository):
    page = (repository / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^pip install .*&&.*$", page, flags=re.MULTILINE)
    assert len(commands) == 2, "one command for the main job, one for the tests"
    ci = (repository / ".ci" / "run").read_text(encoding="utf-8").replace("--quiet ", "")
    for step in (step.strip() for command in commands for step in command.split("&&")):
        assert step in ci, f"CI does not run: {step}"
