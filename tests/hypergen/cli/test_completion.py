"""Shell completion: what bash offers, as bash itself works it out; scripts of the other shells."""

import subprocess

import pytest

from hypergen.cli.completion import FILES, completion
from hypergen.cli.main import COMMANDS, main

BASH = """
source ./completion.bash
for line in "hypergen tra" "hypergen train --prior-s" "hypergen evaluate ./completion.b"; do
    COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _tyro_hypergen
    echo ${COMPREPLY[*]}
done
complete -p hypergen
"""


def test_bash_completes_commands_options_and_files(tmp_path, capsys):
    assert main(["--print-completion", "bash"]) == 0
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)
    done = subprocess.run(["bash", "-c", BASH], cwd=tmp_path, capture_output=True, text=True)
    commands, options, files, registered = done.stdout.splitlines()
    assert commands.split() == ["train", "transfer"] and options == "--prior-scale"
    # Bash asks the function first, and completes the names of files itself where that is silent.
    assert files == "" and registered == "complete -o default -F _tyro_hypergen hypergen"


@pytest.mark.parametrize("shell", FILES)
def test_the_script_of_a_shell_knows_every_command_and_leaves_files_to_it(shell):
    before, after = FILES[shell]
    few = {name: COMMANDS[name] for name in ("export", "list")}
    script = completion(few, [shell])
    assert all(name in script for name in few) and "--ensemble" in script
    assert script.replace(after, "") != script if after else before not in script


@pytest.mark.parametrize("given", [[], ["csh"], ["bash", "zsh"]])
def test_other_shells_are_refused(given, capsys):
    assert main(["--print-completion", *given]) == 2
    told = capsys.readouterr().err
    assert told == (
        "hypergen: --print-completion takes one of bash, zsh, fish, "
        f"got {' '.join(given) or 'nothing'}\n"
    )
