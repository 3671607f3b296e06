"""What is written is written by one process at a time, whenever another one begins, ends or is killed."""

import fcntl
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from s2olib import project
from s2olib.project import InputError, alone, code_fingerprint, fingerprint, resolve


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_who_comes_second_is_refused_until_the_first_has_ended(tmp_path, error):
    path = tmp_path / "new" / "set.v1"
    with suppress(KeyboardInterrupt), alone(path, "target"):
        for _ in range(2):  # who is refused takes nothing away
            with pytest.raises(InputError, match=r"^'.*set.v1' is being written by .* give another target$"):
                alone(path, "target").__enter__()
        with alone(path.with_name("set.v2"), "target"):
            pass
        if error:
            raise error
    assert not list(path.parent.iterdir())


def test_text_is_utf8_whatever_the_language_of_the_machine(tmp_path):
    code = f"""if True:
        from pathlib import Path
        from s2olib.data.landcover import find_legend
        from s2olib.project import write_json
        write_json({str(tmp_path / "epoch.json")!r}, find_legend("hrlulc-v21.11").epoch)"""
    ascii = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | ascii, check=True)
    assert (tmp_path / "epoch.json").read_bytes() == '"2018–2020"\n'.encode()


def test_what_cannot_be_a_path_is_named():
    with pytest.raises(InputError, match=r"'~nobody-has-this/data' begins in the home folder of nobody here"):
        resolve("~nobody-has-this/data")
    with pytest.raises(InputError, match=r"'a\\x00b' is no path: it holds a character"):
        resolve("a\0b")
    with pytest.raises(InputError, match=r"that begins with 'x{60}' is too long for this disk"):
        resolve("x" * 300)


def test_a_fingerprint_follows_names_as_well_as_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / f"set/{name}").write_text(name)
    before = fingerprint(tmp_path / "set")
    assert fingerprint(tmp_path / "set") == before
    (tmp_path / "set/b").rename(tmp_path / "set/c")  # the order of the files stays
    assert fingerprint(tmp_path / "set") != before


def test_a_legend_of_the_librarys_counts_as_its_code(monkeypatch):
    before = code_fingerprint("data")
    legend = project.SOURCES[Path("data/legends/igbp.yml")]
    monkeypatch.setitem(project.SOURCES, Path("data/legends/igbp.yml"), legend + b"\n# explained\n")
    assert code_fingerprint("data") == before
    monkeypatch.setitem(project.SOURCES, Path("data/legends/igbp.yml"), legend.replace(b"water: [", b"water: [1, "))
    assert code_fingerprint("data") != before


def test_values_that_are_false_are_not_one_another(monkeypatch):
    found = set()
    for value in ("", "0", "0.0", "False", "''", "b''", "None"):
        monkeypatch.setattr(project, "SOURCES", {Path("a.py"): f"def f():\n    return {value}\n".encode()})
        found.add(code_fingerprint())
    assert len(found) == 7


def test_a_lock_that_was_removed_before_it_was_had_is_taken_anew(tmp_path, monkeypatch):
    real = fcntl.flock

    def late(file, how):
        monkeypatch.undo()
        (tmp_path / ".set.lock").unlink()  # the first process ends between the second's opening and locking
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with alone(tmp_path / "set", "target"), pytest.raises(InputError):
        alone(tmp_path / "set", "target").__enter__()


def test_a_killed_process_holds_nothing_though_one_that_it_forked_lives_on(tmp_path):
    def work(pipe):
        with alone(tmp_path / "set", "target"):
            if child := os.fork():
                pipe.send(child)
            time.sleep(60)

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=work, args=(there,))
    process.start()
    child = here.recv()
    try:
        with pytest.raises(InputError):
            alone(tmp_path / "set", "target").__enter__()
        process.kill()
        process.join()
        with alone(tmp_path / "set", "target"):
            os.kill(child, 0)  # it lives
    finally:
        os.kill(child, 9)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (project.InputError("a is b: give c."), 2, "error: a is b: give c.\n"),
        (
            PermissionError(13, "Permission denied", "/a"),
            2,
            "error: '/a' may not be read or written: change its permissions.\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted: the same command goes on there\n"),
    ],
)
def test_a_command_line_ends_in_a_sentence(error, code, said, capsys):
    with pytest.raises(SystemExit) as end, project.told_in_a_sentence("there"):
        raise error
    assert end.value.code == code and capsys.readouterr().err == said


def test_a_right_that_is_missing_without_a_file_is_told_as_it_came():
    with pytest.raises(PermissionError, match="semaphore"), project.told_in_a_sentence():
        raise PermissionError(13, "semaphore")


def test_a_command_line_whose_output_nobody_reads_ends_without_a_word():
    """As `python -m … | true`: what is printed finds no reader, and nothing else went wrong."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for lines in (1, 10**6):  # what fills no buffer is written at the end
        code = "input()\nfrom s2olib import project\nwith project.told_in_a_sentence():\n    "
        code += f"[print('line') for _ in range({lines})]"
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as process:
            process.stdout.close()
            process.stdin.write(b"\n")
            process.stdin.close()
            assert process.wait(60) == 141 and process.stderr.read() == b""


def test_a_key_of_yaml_is_given_once_and_may_be_overridden_after_a_merge():
    text = "one: &one {a: 1, b: [2]}\ntwo: {<<: *one, a: 3}\nthree: {<<: *one}\nfour: *one"
    assert project.parse_yaml(text) == yaml.safe_load(text)
    assert project.parse_yaml("") is None
    for twice in ("a: 1\nb: 2\na: 3", "- {x: {a: 1, a: 2}}", "1: a\n1: b", "[{? [{a: 1, a: 2}] : 1}]"):
        with pytest.raises(yaml.YAMLError, match="is given twice"):
            project.parse_yaml(twice)
