"""`trellis2 generate` with many pictures: side by side, each to a file of its own, each with an end of its own."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from tests.unit.client.cli_runner import Shell, Terminal
from tests.unit.client.fake_service import PATIENCE_S, Studio
from tests.unit.client.scripted_transport import GLB


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes pictures in a folder that is the present one."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(b"\x89PNG\r\n\x1a\n")

    return make


def files(folder: str = ".") -> list[str]:
    """What lies in a folder, by its path in it."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))


def test_pictures_are_made_side_by_side(pictures: Callable[..., None]) -> None:
    """None of these jobs ends before all of them are submitted."""
    pictures("a.png", "b.png", "c.png")
    studio = Studio(together=3)
    assert Shell(studio).run("generate", "a.png", "b.png", "c.png", "-o", "out/") == 0
    assert files("out") == ["a.glb", "b.glb", "c.glb"]
    assert Path("out/b.glb").read_bytes() == GLB


def test_no_more_are_in_hand_than_was_said(pictures: Callable[..., None]) -> None:
    """The next one is submitted when one has ended."""
    pictures(*(f"{number}.png" for number in range(6)))
    studio = Studio()
    assert Shell(studio).run("generate", ".", "-o", "out/", "--at-once", "2") == 0
    assert (len(studio.images), studio.most_in_hand <= 2) == (6, True)


def test_one_that_goes_wrong_does_not_stop_the_others(pictures: Callable[..., None]) -> None:
    """Each is told of by its name, then all of them in a line; the exit code is that of the worst."""
    pictures("a.png", "b.png", "c.png", "d.png")
    shell = Shell(Studio({"a.png": "failed", "b.png": "refused"}))
    assert shell.run("generate", ".", "-o", "out") == 2
    assert files("out") == ["c.glb", "d.glb"]
    told = re.sub(r"job_\d", "job_N", shell.err.getvalue()).splitlines()
    assert "trellis2: a.png: job job_N failed: nothing stands out" in told
    assert "trellis2: b.png: It is so." in told
    assert told[-1].startswith("trellis2: 2 of 4 done; not done: ")
    assert Shell(Studio({"a.png": "failed"})).run("generate", ".", "-o", "out") == 1


def test_key_that_is_unknown_is_told_of_once_and_stops_the_rest(pictures: Callable[..., None]) -> None:
    """What is wrong with all of them need not be asked about each of them."""
    pictures(*(f"{number}.png" for number in range(9)))
    studio = Studio({f"{number}.png": "unknown key" for number in range(9)}, together=2)
    shell = Shell(studio)
    assert shell.run("generate", ".", "--at-once", "2", "--json") == 5
    assert shell.err.getvalue().count("TRELLIS2_API_KEY") == 1
    assert studio.asked == len(shell.json_lines) < 9


def test_each_record_says_which_picture_it_is_of(pictures: Callable[..., None]) -> None:
    """With --json; errors, too."""
    pictures("a.png", "photos/b.png")
    shell = Shell(Studio({"b.png": "refused"}))
    shell.run("generate", "a.png", "photos", "--json")
    assert {line["image"]: "error" in line for line in shell.json_lines} == {"a.png": False, "photos/b.png": True}


def test_jobs_that_are_left_to_themselves_are_named_with_their_pictures(pictures: Callable[..., None]) -> None:
    """A line each: the id first, for scripts."""
    pictures("a.png", "b.png")
    shell = Shell(Studio())
    assert shell.run("generate", ".", "--no-wait") == 0
    assert sorted(line.split("  ")[1] for line in shell.out.getvalue().splitlines()) == ["a.png", "b.png"]
    assert files() == ["a.png", "b.png"]


# --- which pictures, and where to


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["photos"], ["a.png", "b.JPG", "c.webp"]),
        (["photos/*.png"], ["a.png"]),
        (["photos/**/*.png"], ["a.png", "deep.png"]),
        (["photos", "photos/a.png", "./photos/a.png"], ["a.png", "b.JPG", "c.webp"]),
        (["[x].png"], ["[x].png"]),
    ],
    ids=" ".join,
)
def test_folders_and_patterns_mean_the_pictures_in_them(
    arguments: list[str], expected: list[str], pictures: Callable[..., None]
) -> None:
    """A folder's own pictures; a pattern's; each once, however often it is meant. A file by that name is no pattern."""
    pictures("photos/a.png", "photos/b.JPG", "photos/c.webp", "photos/notes.txt", "photos/more/deep.png", "[x].png")
    studio = Studio()
    assert Shell(studio).run("generate", *arguments, "-o", "out/") == 0
    assert sorted(studio.images.values()) == expected


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["empty"], "empty holds no PNG, JPEG or WebP files"),
        (["*.jpg"], "*.jpg fits no PNG, JPEG or WebP file"),
        (["a.png", "b.png", "-o", "out.glb"], "2 pictures cannot all be written to out.glb: name a folder, or {name}"),
        (["a.png", "x/a.png"], "a.png and x/a.png would both be written to a.glb: tell them apart with {number}"),
        (["a.png", "x/A.png"], "a.png and x/A.png would both be written to A.glb"),
        (["a.webp", "--poster", "."], "the picture a.webp would be overwritten"),
        (["a.png", "--poster", "x.glb", "-o", "x.glb"], "two results of a.png would both be written to x.glb"),
        (["a.png", "-o", "{what}.glb"], "{what} is none of {name}, {folder} and {number}"),
        (["a.png", "--at-once", "0"], "'0' is not a whole number from 1 to 100"),
        (["a.png", "--seed", "-1"], "'-1' is not a whole number from 0 to 4294967295"),
        (["a.png", "--ss-rescale-t", "nan"], "'nan' is not a number from 1 to 10"),
        (["a.png", "--texture-size", "100"], "'100' is none of 512, 1024, 2048, 4096"),
        (["a.png", "--formats", "glb,obj"], "'obj' is none of glb, usdz, meshopt"),
        (["a.png", "--presett", "web"], "--presett web is not understood; did you mean --preset?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_in_a_line(
    argv: list[str], complaint: str, pictures: Callable[..., None]
) -> None:
    """Before anything is sent; the line says where to read more."""
    pictures("a.png", "b.png", "x/a.png", "x/A.png", "a.webp")
    Path("empty").mkdir()
    shell = Shell(Studio())
    with pytest.raises(SystemExit) as caught:
        shell.run("generate", *argv)
    assert caught.value.code == 2
    told = shell.err.getvalue()
    assert told.startswith("trellis2: ")
    assert complaint in told
    assert told.endswith("; see: trellis2 generate --help\n")
    assert told.count("\n") == 1


def test_names_can_be_made_of_the_pictures_folder_name_and_number(pictures: Callable[..., None]) -> None:
    """So that pictures of one name in two folders do not meet."""
    pictures("red/mug.png", "blue/mug.png")
    assert Shell(Studio()).run("generate", "red", "blue", "-o", "out/{folder}/{number}-{name}.glb") == 0
    assert files("out") == ["blue/2-mug.glb", "red/1-mug.glb"]


def test_folder_that_cannot_be_made_costs_no_job(pictures: Callable[..., None]) -> None:
    """It is found out before anything is sent."""
    pictures("a.png")
    Path("out").write_text("a file")
    studio = Studio()
    shell = Shell(studio)
    assert shell.run("generate", "a.png", "-o", "out/a.glb") == 2
    assert shell.err.getvalue() == "trellis2: out: File exists; choose another folder with -o\n"
    assert studio.asked == 0


# --- Ctrl-C, and what is drawn


def test_ctrl_c_cancels_what_goes_on_and_nothing_else(pictures: Callable[..., None]) -> None:
    """A real signal: what is done stays done, what was not begun is not begun; exit code 4."""
    pictures("a.png", "held.png", "never.png")
    studio = Studio({"held.png": "held"})
    shell = Shell(studio)

    def press() -> None:
        assert studio.is_holding.wait(PATIENCE_S)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=press, daemon=True).start()
    assert shell.run("generate", "a.png", "held.png", "never.png", "--at-once", "1") == 4
    assert studio.canceled == ["held.png"]
    assert files() == ["a.glb", "a.png", "held.png", "never.png"]
    told = shell.err.getvalue()
    assert "trellis2: canceling held.png (job_2); Ctrl-C again lets it run\n" in told
    assert told.endswith("trellis2: 1 of 3 done; not done: held.png, never.png\n")


def test_a_terminal_has_a_line_for_each_picture_under_way_and_the_sum_below(pictures: Callable[..., None]) -> None:
    """Drawn over and over: up to the first line, then each; at the end nothing of it is left."""
    pictures("a.png", "mug.png")
    shell = Shell(Studio(together=2), err=Terminal())
    assert shell.run("generate", ".", "-o", "out", "--quiet") == 0
    assert shell.err.getvalue() == ""
    assert shell.run("generate", ".", "-o", "out") == 0
    drawn = shell.err.getvalue()
    frames = [frame.split("\x1b[K") for frame in drawn.split("\r")]
    assert ["0 of 2 done" in line for line in max(frames, key=len)].count(True) == 1
    assert any("a.png    shape" in frame[0] and "mug.png  shape" in frame[1] for frame in frames if len(frame) > 2)
    assert "\x1b[2A" in drawn
    last = drawn[drawn.rindex("\x1b[") :]
    assert last.endswith("trellis2: 2 of 2 done\n")


def test_a_small_terminal_shows_as_many_as_fit(pictures: Callable[..., None]) -> None:
    """And says how many more there are: a region that scrolls cannot be drawn over."""
    pictures(*(f"{number}.png" for number in range(9)))
    shell = Shell(Studio(together=9), err=Terminal(), rows=6)
    assert shell.run("generate", ".", "-o", "out") == 0
    assert "... and 6 more" in shell.err.getvalue()
    assert max(frame.count("\n") for frame in shell.err.getvalue().split("\r")) < 6
