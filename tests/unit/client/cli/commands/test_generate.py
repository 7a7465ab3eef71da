"""`trellis2 generate` with many images: in parallel, each with its own file and its own result."""

import io
import os
import re
import signal
from _thread import interrupt_main
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from tests.unit.client.cli_runner import Shell, Terminal
from tests.unit.client.fake_service import TIMEOUT_S, FakeService
from tests.unit.client.scripted_transport import GLB


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Creates images in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(b"\x89PNG\r\n\x1a\n")

    return make


def files(folder: str = ".") -> list[str]:
    """List the files of a folder by relative path."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))


def test_images_are_generated_in_parallel(images: Callable[..., None]) -> None:
    """No job ends before all of them are submitted."""
    images("a.png", "b.png", "c.png")
    service = FakeService(together=3)
    assert Shell(service).run("generate", "a.png", "b.png", "c.png", "-o", "out/") == 0
    assert files("out") == ["a.glb", "b.glb", "c.glb"]
    assert Path("out/b.glb").read_bytes() == GLB


def test_at_once_limits_the_number_of_running_jobs(images: Callable[..., None]) -> None:
    """The next image is submitted when a job has ended."""
    images(*(f"{number}.png" for number in range(6)))
    service = FakeService()
    assert Shell(service).run("generate", ".", "-o", "out/", "--at-once", "2") == 0
    assert (len(service.images), service.most_running <= 2) == (6, True)


def test_failure_does_not_stop_the_other_images(images: Callable[..., None]) -> None:
    """Each failure is reported by name, then all in one line; the exit code is the worst one."""
    images("a.png", "b.png", "c.png", "d.png")
    shell = Shell(FakeService({"a.png": "failed", "b.png": "refused"}))
    assert shell.run("generate", ".", "-o", "out") == 2
    assert files("out") == ["c.glb", "d.glb"]
    lines = re.sub(r"job_\d", "job_N", shell.err.getvalue()).splitlines()
    assert "trellis2: a.png: job job_N failed: nothing stands out" in lines
    assert "trellis2: b.png: It is so." in lines
    assert lines[-1].startswith("trellis2: 2 of 4 done; not done: ")
    assert Shell(FakeService({"a.png": "failed"})).run("generate", ".", "-o", "out") == 1


def test_unknown_key_is_reported_once_and_stops_the_rest(images: Callable[..., None]) -> None:
    """An error that concerns all images needs no further requests."""
    images(*(f"{number}.png" for number in range(9)))
    service = FakeService({f"{number}.png": "unknown key" for number in range(9)}, together=2)
    shell = Shell(service)
    assert shell.run("generate", ".", "--at-once", "2", "--json") == 5
    assert shell.err.getvalue().count("TRELLIS2_API_KEY") == 1
    assert service.asked == len(shell.json_lines) < 9


def test_each_json_record_names_its_image(images: Callable[..., None]) -> None:
    """Errors as well."""
    images("a.png", "photos/b.png")
    shell = Shell(FakeService({"b.png": "refused"}))
    shell.run("generate", "a.png", "photos", "--json")
    assert {line["image"]: "error" in line for line in shell.json_lines} == {"a.png": False, "photos/b.png": True}


def test_no_wait_prints_each_job_with_its_image(images: Callable[..., None]) -> None:
    """One line each, with the id first."""
    images("a.png", "b.png")
    shell = Shell(FakeService())
    assert shell.run("generate", ".", "--no-wait") == 0
    assert sorted(line.split("  ")[1] for line in shell.out.getvalue().splitlines()) == ["a.png", "b.png"]
    assert files() == ["a.png", "b.png"]


# --- input and output files


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
def test_folders_and_patterns_expand_to_their_images(
    arguments: list[str], expected: list[str], images: Callable[..., None]
) -> None:
    """Each image once, a folder without its subfolders. A name that exists as a file is not a pattern."""
    images("photos/a.png", "photos/b.JPG", "photos/c.webp", "photos/notes.txt", "photos/more/deep.png", "[x].png")
    service = FakeService()
    assert Shell(service).run("generate", *arguments, "-o", "out/") == 0
    assert sorted(service.images.values()) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["empty"], "empty contains no PNG, JPEG or WebP files"),
        (["*.jpg"], "*.jpg matches no PNG, JPEG or WebP file"),
        (["a.png", "b.png", "-o", "out.glb"], "2 images cannot all be written to out.glb: name a folder, or {name}"),
        (["a.png", "x/a.png"], "a.png and x/a.png would both be written to a.glb: distinguish them with {number}"),
        (["a.png", "x/A.png"], "a.png and x/A.png would both be written to A.glb"),
        (["a.webp", "--poster", "."], "the image a.webp would be overwritten"),
        (["a.png", "--poster", "x.glb", "-o", "x.glb"], "two results of a.png would both be written to x.glb"),
        (["a.png", "-o", "{what}.glb"], "{what} is not {name}, {folder} or {number}"),
        (["a.png", "--at-once", "0"], "'0' is not a whole number from 1 to 100"),
        (["a.png", "--seed", "-1"], "'-1' is not a whole number from 0 to 4294967295"),
        (["a.png", "--ss-rescale-t", "nan"], "'nan' is not a number from 1 to 10"),
        (["a.png", "--texture-size", "100"], "'100' is not one of 512, 1024, 2048, 4096"),
        (["a.png", "--formats", "glb,obj"], "'obj' is not one of glb, usdz, meshopt"),
        (["a.png", "--presett", "web"], "unknown argument: --presett web; did you mean --preset?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_are_refused_in_one_line(argv: list[str], message: str, images: Callable[..., None]) -> None:
    """Before any request; the line names the help."""
    images("a.png", "b.png", "x/a.png", "x/A.png", "a.webp")
    Path("empty").mkdir()
    shell = Shell(FakeService())
    with pytest.raises(SystemExit) as caught:
        shell.run("generate", *argv)
    assert caught.value.code == 2
    errors = shell.err.getvalue()
    assert errors.startswith("trellis2: ")
    assert message in errors
    assert errors.endswith("; see: trellis2 generate --help\n")
    assert errors.count("\n") == 1


def test_export_refuses_one_file_for_two_results() -> None:
    """In one line, before any request, as `generate` does."""
    shell = Shell(FakeService())
    with pytest.raises(SystemExit) as caught:
        shell.run("export", "job_1", "--usdz", "mug", "--poster", "mug")
    assert caught.value.code == 2
    message = "two results of job_1 would both be written to mug; see: trellis2 export --help"
    assert shell.err.getvalue() == f"trellis2: {message}\n"


def test_target_pattern_has_folder_name_and_number_of_the_image(images: Callable[..., None]) -> None:
    """So that images with one name in two folders have different targets."""
    images("red/mug.png", "blue/mug.png")
    assert Shell(FakeService()).run("generate", "red", "blue", "-o", "out/{folder}/{number}-{name}.glb") == 0
    assert files("out") == ["blue/2-mug.glb", "red/1-mug.glb"]


def test_folder_that_cannot_be_created_costs_no_job(images: Callable[..., None]) -> None:
    """It is refused before any request."""
    images("a.png")
    Path("out").write_text("a file")
    service = FakeService()
    shell = Shell(service)
    assert shell.run("generate", "a.png", "-o", "out/a.glb") == 2
    assert shell.err.getvalue() == "trellis2: out: File exists; choose another folder with -o\n"
    assert service.asked == 0


# --- Ctrl-C, and the display


@pytest.mark.parametrize("interrupt", [lambda: os.kill(os.getpid(), signal.SIGINT), interrupt_main])
def test_ctrl_c_cancels_running_jobs_only(images: Callable[..., None], interrupt: Callable[[], None]) -> None:
    """Finished jobs keep their results, pending images do not start; exit code 4.

    By a real signal, and by `interrupt_main`, which like a signal just before a wait does not end the wait.
    """
    images("a.png", "held.png", "never.png")
    service = FakeService({"held.png": "held"})
    shell = Shell(service)

    def press() -> None:
        assert service.is_holding.wait(TIMEOUT_S)
        interrupt()

    Thread(target=press, daemon=True).start()
    assert shell.run("generate", "a.png", "held.png", "never.png", "--at-once", "1") == 4
    assert service.canceled == ["held.png"]
    assert files() == ["a.glb", "a.png", "held.png", "never.png"]
    errors = shell.err.getvalue()
    assert "trellis2: canceling held.png (job_2); press Ctrl-C again to let it run\n" in errors
    assert errors.endswith("trellis2: 1 of 3 done; not done: held.png, never.png\n")


def test_ctrl_c_cancels_no_job_that_get_only_follows(images: Callable[..., None]) -> None:
    """Not even one whose record arrives after Ctrl-C."""
    images()
    is_stopped = Event()

    class Errors(io.StringIO):
        def write(self, text: str) -> int:
            if "interrupted" in text:
                is_stopped.set()
            return super().write(text)

    class InterruptedService(FakeService):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/v1/jobs/job_1" and not is_stopped.is_set():
                interrupt_main()
                assert is_stopped.wait(TIMEOUT_S)
            return super().__call__(request)

    service = InterruptedService(images={"job_1": "a.png"})
    assert Shell(service, err=Errors()).run("get", "job_1", "-o", "a.glb") == 4
    assert service.canceled == []


def test_a_terminal_shows_a_line_for_each_running_image_and_the_total_below(images: Callable[..., None]) -> None:
    """Redrawn from the first line on; removed at the end."""
    images("a.png", "mug.png")
    shell = Shell(FakeService(together=2), err=Terminal())
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


def test_a_small_terminal_shows_as_many_as_fit(images: Callable[..., None]) -> None:
    """With the number of the others: lines that have scrolled cannot be redrawn."""
    images(*(f"{number}.png" for number in range(9)))
    shell = Shell(FakeService(together=9), err=Terminal(), rows=6)
    assert shell.run("generate", ".", "-o", "out") == 0
    assert "... and 6 more" in shell.err.getvalue()
    assert max(frame.count("\n") for frame in shell.err.getvalue().split("\r")) < 6
