import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fedmeta_script


class _Interrupted(ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt


def test_ctrl_c_while_the_program_starts_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fedmeta.cli", _Interrupted("fedmeta.cli"))
    with pytest.raises(SystemExit) as ended:
        fedmeta_script.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "fedmeta: interrupted\n"


def test_the_installed_script_runs_the_command_line():
    script = Path(sys.executable).with_name("fedmeta")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("fedmeta, version ")
