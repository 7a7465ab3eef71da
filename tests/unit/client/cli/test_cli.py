"""The command line: what it asks for, what it writes, how it ends."""

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from trellis2_modal.cli.commands.jobs import age
from trellis2_modal.cli.options import EXPORT, GENERATE
from trellis2_modal.cli.options import PRESETS as PRESET_NAMES
from trellis2_modal.cli.output.progress import Progress
from trellis2_modal.types.job import Job

from shared.domain.parameters import PRESETS, ExportParameters, Parameters
from tests.unit.client.cli_runner import Shell, Terminal
from tests.unit.client.scripted_transport import GLB, Script, job, job_body, located, model, problem, streamed


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A picture in a folder that is the present one."""
    monkeypatch.chdir(tmp_path)
    Path("mug.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return "mug.png"


def whole(body: bytes = GLB) -> httpx.Response:
    return streamed(body, content_type="model/gltf-binary")


def succeeded(**fields: Any) -> httpx.Response:
    return job("succeeded", artifacts=model(), **fields)


# --- generate


def test_generate_writes_the_files_and_names_them(picture: str) -> None:
    """A GLB and a poster where they were asked for; their measures on stdout; the stages' times on stderr."""
    poster = {"poster": {"bytes": len(GLB), "sha256": model()["model"]["sha256"]}}
    measured = {"model": model()["model"] | {"bytes": 1_234_567, "triangles": 99_840, "texture_px": 2048}} | poster
    done = job("succeeded", code=202, artifacts=measured, timings={"shape": 2.0, "extract": 3.5})
    shell = Shell(Script([done, located(), whole(), located(), whole()]))
    assert shell.run("generate", picture, "-o", "out/a.glb", "--poster", "out/a.webp") == 0
    assert Path("out/a.glb").read_bytes() == GLB
    assert Path("out/a.webp").read_bytes() == GLB
    assert shell.out.getvalue() == "out/a.glb  1.2 MB  99,840 triangles  2048 px\nout/a.webp  1 kB\n"
    assert shell.err.getvalue() == "mug.png: succeeded\ntrellis2: mug.png: shape 2.0 s, extract 3.5 s; 5.5 s in all\n"


def test_generate_sends_parameters_in_either_spelling(picture: str) -> None:
    """TRELLIS.2's names with underscores or hyphens; what is not given is not sent."""
    shell = Shell(Script([job(code=202)]))
    code = shell.run(
        *("generate", picture, "--no-wait", "--preset", "web", "--seed", "7", "--pipeline-type", "512"),
        *(
            "--ss_sampling_steps",
            "8",
            "--tex-slat-guidance-strength",
            "1.5",
            "--remesh",
            "false",
            "--lane",
            "interactive",
        ),
    )
    assert (code, shell.out.getvalue()) == (0, "job_1\n")
    body = shell.script.requests[0].content.decode(errors="replace")
    fields = {
        part.split('name="')[1].split('"')[0]: part.split("\r\n\r\n")[1].rstrip("\r\n")
        for part in body.split("--" + body[2:34])
        if 'name="' in part and "filename" not in part
    }
    assert fields == {
        "preset": "web",
        "lane": "interactive",
        "seed": "7",
        "pipeline_type": "512",
        "ss_sampling_steps": "8",
        "tex_slat_guidance_strength": "1.5",
        "remesh": "false",
    }


def test_generate_asks_for_what_it_is_to_save_and_for_real_dimensions(picture: str) -> None:
    """A USDZ; sides as name=value; bytes."""
    usdz = {"usdz": {"bytes": len(GLB), "sha256": model()["model"]["sha256"]}}
    done = job("succeeded", code=202, artifacts=model() | usdz)
    shell = Shell(Script([done, located(), whole(), located(), whole()]))
    options = ("--usdz", "a.usdz", "--dimensions-m", "width=0.12, fit=exact", "--max-bytes", "4000000")
    assert shell.run("generate", picture, *options) == 0
    body = shell.script.requests[0].content.decode(errors="replace")
    for name, value in {
        "formats": '["glb", "usdz"]',
        "dimensions_m": '{"width": 0.12, "fit": "exact"}',
        "max_bytes": "4000000",
    }.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n' in body
    assert Path("a.usdz").read_bytes() == GLB


def test_get_says_what_a_job_has_not_made(tmp_path: Path) -> None:
    """And saves nothing; an export could make it."""
    shell = Shell(Script([succeeded(), succeeded()]))
    assert shell.run("get", "job_1", "-o", str(tmp_path / "a.glb"), "--usdz", str(tmp_path / "a.usdz")) == 2
    assert shell.err.getvalue().splitlines()[-1] == (
        "trellis2: job_1 has no usdz: `trellis2 export job_1` with --usdz makes it"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["tall", "height=tall", "0.1x0.2"])
def test_dimensions_that_cannot_be_read_are_refused_before_anything_is_sent(picture: str, text: str) -> None:
    """With an example of how to write them."""
    shell = Shell(Script([]))
    with pytest.raises(SystemExit):
        shell.run("generate", picture, "--dimensions-m", text)
    assert shell.script.requests == []


def test_what_was_lowered_and_which_check_failed_is_told(picture: str) -> None:
    """On stderr, whoever asked for quiet, too; the exit code is that of a job that succeeded."""
    lowered = [{"name": "texture_size", "wanted": 4096, "made": 1024}]
    checks = [
        {"name": "max_triangles", "limit": 100_000, "measured": 120_000, "passed": False},
        {"name": "max_bytes", "limit": 5_000_000, "measured": 4_000_000, "passed": True},
    ]
    record = {"model": model()["model"] | {"lowered": lowered, "dimensions_m": [0.1, 0.2, 0.3]}}
    shell = Shell(Script([job("succeeded", code=202, artifacts=record, checks=checks), located(), whole()]))
    assert shell.run("generate", picture, "--quiet") == 0
    assert shell.err.getvalue().splitlines() == [
        "trellis2: mug.png: texture_size was lowered from 4096 to 1024, so that it fits",
        "trellis2: mug.png: max_triangles is 120000, the limit 100000",
    ]


def test_options_know_every_parameter_and_preset_of_the_service() -> None:
    """The client imports none of the service: this is where the two lists are compared."""
    assert set(GENERATE) == set(Parameters.model_fields)
    assert set(EXPORT) == set(ExportParameters.model_fields)
    assert set(PRESET_NAMES) == set(PRESETS)


@pytest.mark.parametrize("name", GENERATE)
def test_option_takes_what_the_service_takes(name: str) -> None:
    """The ends of a range and nothing beyond; every choice and no other."""
    schema = Parameters.model_json_schema()["properties"][name]
    schema |= next(iter(schema.get("anyOf", [{}])))
    option = GENERATE[name]
    if "enum" in schema:
        assert option.choices == tuple(map(str, schema["enum"]))
        assert [option.read(choice) for choice in option.choices] == schema["enum"]
    if "minimum" in schema:
        low, high = schema["minimum"], schema["maximum"]
        assert [option.read(str(low)), option.read(str(high))] == [low, high]
        for beyond in (low - 1, high + 1, "nan", "much"):
            with pytest.raises(argparse.ArgumentTypeError, match=f" from {low} to {high}"):
                option.read(str(beyond))
    assert {"enum", "minimum", "$ref"} & schema.keys() or schema["type"] in ("boolean", "array")


def test_generate_as_json_gives_one_object_a_job(picture: str) -> None:
    """The record with the files added, and nothing else on stdout."""
    shell = Shell(Script([job("succeeded", code=202, artifacts=model()), located(), whole()]))
    assert shell.run("generate", picture, "--json") == 0
    assert shell.json_lines == [
        job_body("succeeded", artifacts=model()) | {"files": {"model": "mug.glb"}, "image": "mug.png"}
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["mug.png", "cup.png", "-o", "out.glb"],
        ["mug.png", "other/mug.jpg", "-o", "out"],
        ["mug.png", "--seed", "x"],
        ["mug.png", "--remesh", "maybe"],
        ["mug.png", "--unknown", "1"],
        ["mug.png", "--see", "1"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage_asks_for_nothing(argv: list[str], picture: str) -> None:  # noqa: ARG001 - the folder
    """One file for two pictures, two pictures of one name, values that are none: exit code 2 before any request."""
    shell = Shell(Script([]))
    with pytest.raises(SystemExit) as caught:
        shell.run("generate", *argv)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("answers", "code", "complaint"),
    [
        ([job("failed", error={"code": "poison", "detail": "took workers", "retryable": False})], 1, "took workers"),
        ([job("expired")], 1, "job job_1 expired"),
        ([job("canceled")], 4, "job job_1 canceled"),
        ([problem(422)], 2, "It is so."),
        ([problem(404)], 2, "It is so."),
        ([problem(401)], 5, "It is so."),
        ([problem(403)], 5, "It is so."),
        ([problem(500)], 3, "It is so."),
        ([problem(503)] * 6, 3, "It is so."),
        ([problem(429)] * 6, 3, "It is so."),
        ([httpx.ConnectError("refused")] * 6, 3, "does not answer: refused"),
        (
            [
                job("succeeded", artifacts=model()),
                *[located(), whole(b"x"), located(), whole(b"x"), located(), whole(b"x")],
            ],
            1,
            "sha256",
        ),
    ],
    ids=str,
)
def test_ending_has_its_exit_code_and_a_sentence(answers: list[Any], code: int, complaint: str, picture: str) -> None:
    """0 done, 1 failed, 2 refused, 3 unreachable, 4 canceled, 5 not allowed; the sentence is on stderr."""
    shell = Shell(Script(answers))
    assert shell.run("generate", picture) == code
    assert complaint in shell.err.getvalue()
    assert shell.out.getvalue() == ""


def test_error_as_json_has_code_and_fields(picture: str) -> None:
    """Scripts read the problem, whoever else reads the sentence."""
    shell = Shell(Script([problem(422, "parameter_invalid", errors=[{"pointer": "/seed", "detail": "too large"}])]))
    assert shell.run("generate", picture, "--json") == 2
    assert shell.json_lines == [
        {
            "error": {
                "code": "parameter_invalid",
                "detail": "It is so.",
                "retryable": False,
                "status": 422,
                "errors": [{"pointer": "/seed", "detail": "too large"}],
            },
            "image": "mug.png",
        }
    ]


def test_failed_job_as_json_is_its_record(picture: str) -> None:
    """The record says why; there are no files."""
    shell = Shell(Script([job("expired", code=202)]))
    assert shell.run("generate", picture, "--json") == 1
    assert shell.json_lines == [job_body("expired") | {"files": {}, "image": "mug.png"}]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (problem(401), "It is so.; give a key as TRELLIS2_API_KEY; on the service's machine"),
        (problem(404, "job_not_found"), "It is so.; `trellis2 jobs` shows yours"),
        (problem(429, headers={"Retry-After": "7"}), "It is so.; try again in 7 s"),
        (
            problem(422, errors=[{"pointer": "/seed", "detail": "too\nlarge"}, {"pointer": "/lane", "detail": "no"}]),
            "seed: too large; lane: no",
        ),
        (problem(422, errors=[{"pointer": "/image", "detail": "It is so."}]), "It is so."),
        (httpx.ConnectError("[Errno 111] Connection refused"), "does not answer: Connection refused; --url or TRELLIS"),
        (httpx.ReadTimeout("too late"), "https://3d.example.com/ does not answer: too late"),
        (httpx.Response(200, html="<html>"), "what answers at https://3d.example.com/ is not the service"),
    ],
    ids=str,
)
def test_error_is_one_line_with_what_mends_it(answer: Any, sentence: str) -> None:
    """Whatever the service, or the network, has said."""
    shell = Shell(Script([answer] * 3))
    assert shell.run("get", "job_1") != 0
    assert sentence in shell.err.getvalue()
    assert shell.err.getvalue().count("\n") == 1


def test_failed_job_that_may_go_better_says_how_to_run_it_again(picture: str) -> None:
    """By its id; one that would fail again does not."""
    for retryable, ending in ((True, "; `trellis2 retry job_1` runs it again\n"), (False, "failed: lost\n")):
        shell = Shell(Script([job("failed", error={"code": "lost", "detail": "lost", "retryable": retryable})]))
        shell.run("generate", picture)
        assert shell.err.getvalue().endswith(ending)


def test_result_that_cannot_be_written_says_how_to_save_it_elsewhere(picture: str) -> None:
    """The job is there and paid for; the folder went away meanwhile."""

    def in_the_way(_: httpx.Request) -> httpx.Response:
        Path("out").rmdir()
        Path("out").write_text("a file")
        return job("succeeded", code=202, artifacts=model())

    shell = Shell(Script([in_the_way]))
    assert shell.run("generate", picture, "-o", "out/a.glb") == 2
    assert shell.err.getvalue().splitlines()[-1] == (
        "trellis2: mug.png: out/a.glb cannot be written: File exists; `trellis2 get job_1 -o FOLDER` saves it elsewhere"
    )


def test_wrong_usage_as_json_is_an_error_as_any_other(picture: str) -> None:
    """One line on stdout, one on stderr."""
    shell = Shell(Script([]))
    with pytest.raises(SystemExit):
        shell.run("generate", picture, "--seed", "x", "--json")
    [line] = shell.json_lines
    assert line["error"]["code"] == "wrong_usage"
    assert "'x' is not a whole number from 0" in line["error"]["detail"]


def test_command_that_is_none_is_answered_with_the_nearest() -> None:
    """At every level."""
    for argv, meant in ((["genrate"], "generate"), (["batch", "rum"], "run"), (["batch", "list", "--jsn"], "--json")):
        shell = Shell(Script([]))
        with pytest.raises(SystemExit):
            shell.run(*argv)
        assert f"did you mean {meant}?" in shell.err.getvalue()


def test_picture_that_is_not_there_is_refused_by_name(picture: str) -> None:  # noqa: ARG001 - the folder
    """The operating system's sentence, exit code 2."""
    shell = Shell(Script([]))
    assert shell.run("generate", "missing.png", "--json") == 2
    assert shell.err.getvalue() == "trellis2: missing.png: No such file or directory\n"
    assert shell.json_lines[0]["error"]["code"] == "file_error"


def interrupting(_: httpx.Request) -> httpx.Response:
    raise KeyboardInterrupt


def test_ctrl_c_cancels_what_goes_on_after_saying_so(picture: str) -> None:
    """The person at the keyboard learns the id; exit code 4."""
    shell = Shell(Script([job(code=202), interrupting, job("canceled")]))
    assert shell.run("generate", picture) == 4
    assert shell.script.lines[-1] == "POST https://3d.example.com/v1/jobs/job_1/cancel"
    assert "trellis2: canceling mug.png (job_1); Ctrl-C again lets it run\n" in shell.err.getvalue()


def test_second_ctrl_c_lets_the_job_run(picture: str) -> None:
    """Whoever presses again leaves at once."""
    shell = Shell(Script([job(code=202), interrupting, interrupting]))
    assert shell.run("generate", picture) == 4
    assert shell.script.answers == []


# --- progress

STAGES = [
    job_body("queued", queue_position=3),
    job_body("running"),
    job_body("running", stage="sparse_structure", progress=0.1),
    job_body("running", stage="shape", progress=0.4, eta_seconds=75),
    job_body("running", stage="shape", progress=0.5),
    job_body("succeeded", progress=1.0, artifacts=model()),
]


def following(shell: Shell, picture: str) -> str:
    """What a job that goes through STAGES leaves on stderr."""
    stream = streamed(*(f"data: {json.dumps(body)}\n\n".encode() for body in STAGES))
    shell.script.answers += [job(code=202), stream, located(), whole()]
    assert shell.run("generate", picture) == 0
    return shell.err.getvalue()


def test_progress_in_a_log_is_a_line_for_each_stage(picture: str) -> None:
    """No control characters, no repetition."""
    assert following(Shell(Script([])), picture).splitlines() == [
        "mug.png: queued",
        "mug.png: queued, 3 before",
        "mug.png: starting",
        "mug.png: sparse structure",
        "mug.png: shape",
        "mug.png: succeeded",
    ]


def test_progress_on_a_terminal_is_one_line_drawn_over_and_over(picture: str) -> None:
    """A bar by stage with time gone and time to go, taken away at the end."""
    drawn = following(Shell(Script([]), err=Terminal()), picture)
    assert "\n" not in drawn
    frames = [frame.removesuffix("\x1b[K") for frame in drawn.split("\r")]
    assert frames[1] == "mug.png  sending           [------------------------------]   0%  0:00"
    assert frames[6] == "mug.png  shape             [############------------------]  40%  0:00, about 1:15 to go"
    assert frames[-1] == ""


def test_progress_ticks_between_two_snapshots(picture: str) -> None:
    """The time goes on while the service says nothing; after the line is taken away nothing is drawn."""
    shell = Shell(Script([]), err=Terminal())
    progress = Progress.on(shell.err, lambda: 80, shell.script.clock)
    progress.tick()
    progress.show(picture, Job.from_wire(STAGES[3]))
    shell.script.now_s = 61
    progress.tick()
    progress.clear()
    progress.tick()
    frames = [frame.removesuffix("\x1b[K").strip() for frame in shell.err.getvalue().split("\r")]
    assert [frame.rpartition("% ")[2].strip() for frame in frames] == [
        "",
        "0:00, about 1:15 to go",
        "1:01, about 1:15 to go",
        "",
    ]


@pytest.mark.parametrize("columns", [10, 40, 61, 80, 200])
def test_progress_fits_the_terminal(columns: int, picture: str) -> None:
    """However narrow, and however long the picture's name, a frame never wraps."""
    Path(picture).rename("a-picture-of-a-mug-on-a-wooden-table.png")
    picture = "a-picture-of-a-mug-on-a-wooden-table.png"
    drawn = following(Shell(Script([]), err=Terminal(), columns=columns), picture)
    assert max(len(frame.removesuffix("\x1b[K")) for frame in drawn.split("\r")) < columns


def test_quiet_says_nothing_but_the_results(picture: str) -> None:
    """Not a word on stderr."""
    shell = Shell(Script([job("succeeded", code=202, artifacts=model(), timings={"shape": 1.0}), located(), whole()]))
    assert shell.run("generate", picture, "-q") == 0
    assert shell.err.getvalue() == ""


# --- the other commands


def test_export_makes_a_new_file_of_an_old_job(picture: str) -> None:  # noqa: ARG001 - the folder
    """The new job's GLB, under its id where no name was given."""
    shell = Shell(Script([succeeded(), succeeded(id="job_2"), located(), whole()]))
    assert shell.run("export", "job_1", "--preset", "mobile", "--texture-format", "webp") == 0
    assert json.loads(shell.script.requests[1].content) == {"preset": "mobile", "texture_format": "webp"}
    assert Path("job_2.glb").read_bytes() == GLB


def test_get_shows_a_job() -> None:
    """A few lines for a person."""
    shell = Shell(Script([job("running", stage="shape", progress=0.42, seed=7)]))
    assert shell.run("get", "job_1") == 0
    assert shell.out.getvalue().splitlines() == [
        "job       job_1",
        "status    running, shape, 42%",
        "created   2026-01-01 00:00:00 UTC",
        "seed      7",
    ]


def test_get_as_json_is_the_record() -> None:
    """As the service wrote it."""
    shell = Shell(Script([succeeded()]))
    assert shell.run("get", "job_1", "--json") == 0
    assert shell.json_lines == [job_body("succeeded", artifacts=model())]


def test_get_with_an_output_saves_only_what_was_asked_for(picture: str) -> None:  # noqa: ARG001 - the folder
    """A poster is no model."""
    record = {"poster": model()["model"]}
    shell = Shell(Script([job("succeeded", artifacts=record), located(), whole()]))
    assert shell.run("get", "job_1", "--poster", "a.webp") == 0
    assert sorted(path.name for path in Path().iterdir()) == ["a.webp", "mug.png"]


LISTED = [
    job_body("failed", preset="web", cost_usd=0.0262),
    job_body("running", stage="shape", progress=0.5, custom_id="SKU 1"),
    job_body(),
]


def page(*bodies: dict[str, Any], cursor: str | None = None) -> httpx.Response:
    return httpx.Response(200, json={"data": bodies, "next_cursor": cursor})


@pytest.mark.parametrize("verb", ["jobs", "list"])
def test_jobs_are_a_table_on_a_terminal(verb: str) -> None:
    """The newest up to the limit: how old, how far, at what cost; and that there are more."""
    shell = Shell(Script([page(*LISTED)]), now=datetime(2026, 1, 1, 2, 30, tzinfo=UTC))
    shell.out = Terminal()
    assert shell.run(verb, "--limit", "2") == 0
    assert shell.out.getvalue().splitlines() == [
        "JOB                             AGE     STATUS                          COST     PRESET       NAME",
        "job_1                           2 h     failed                          $0.026   web",
        "job_1                           2 h     running, shape, 50%                                   SKU 1",
    ]
    assert shell.err.getvalue() == "trellis2: there are more: --limit N or --all shows them\n"
    assert shell.script.lines == ["GET https://3d.example.com/v1/jobs?limit=3"]


def test_jobs_in_a_pipe_are_fields_between_tabs() -> None:
    """Without a head, with times that can be sorted."""
    shell = Shell(Script([page(*LISTED)]))
    assert shell.run("jobs") == 0
    assert shell.out.getvalue().splitlines()[:2] == [
        "job_1\t2026-01-01T00:00:00Z\tfailed\t\t0.0262\tweb\t",
        "job_1\t2026-01-01T00:00:00Z\trunning\tshape\t0.0000\t\tSKU 1",
    ]


def test_all_jobs_are_fetched_page_by_page() -> None:
    """As records, with --json."""
    shell = Shell(Script([page(job_body(id="job_2"), cursor="c"), page(job_body(id="job_1"))]))
    assert shell.run("jobs", "--all", "--json", "--batch", "batch_1") == 0
    assert [line["id"] for line in shell.json_lines] == ["job_2", "job_1"]
    assert shell.script.lines[1] == "GET https://3d.example.com/v1/jobs?limit=100&batch=batch_1&after=c"


def test_jobs_in_several_statuses_are_one_list() -> None:
    """Newest first, whichever status they are in."""
    times = {"job_3": "2026-01-03T00:00:00Z", "job_2": "2026-01-02T00:00:00Z", "job_1": "2026-01-01T00:00:00Z"}
    bodies = {name: job_body(id=name, created_at=at) for name, at in times.items()}
    shell = Shell(Script([page(bodies["job_2"]), page(bodies["job_3"], bodies["job_1"])]))
    assert shell.run("jobs", "--status", "unfinished", "--json") == 0
    assert [line["id"] for line in shell.json_lines] == ["job_3", "job_2", "job_1"]
    assert [line.partition("status=")[2] for line in shell.script.lines] == ["queued", "running"]


def test_no_jobs_are_said_to_be_none() -> None:
    """On a terminal; scripts get nothing."""
    shell = Shell(Script([page(), page()]))
    assert (shell.run("jobs"), shell.err.getvalue()) == (0, "")
    shell.out = Terminal()
    assert (shell.run("jobs"), shell.err.getvalue()) == (0, "trellis2: no such jobs\n")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "now"), (0, "now"), (59, "59 s"), (61, "1 min"), (7_000, "1 h"), (3 * 86_400, "3 d")],
)
def test_age_is_told_in_one_unit(seconds: int, expected: str) -> None:
    """The largest that it fills; a clock that is behind the service's makes nothing negative."""
    then = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(then, then + timedelta(seconds=seconds)) == expected


@pytest.mark.parametrize(
    ("verb", "answer", "line"),
    [
        ("cancel", job("canceled"), "job_1 canceled\n"),
        ("retry", job("queued", code=202), "job_1 queued\n"),
        ("delete", httpx.Response(204), "job_1 deleted\n"),
    ],
)
def test_change_of_several_jobs_goes_on_past_one_that_is_unknown(verb: str, answer: httpx.Response, line: str) -> None:
    """Each job is told of; the exit code remembers the one that was not there."""
    shell = Shell(Script([problem(404), job("failed"), answer]))
    assert shell.run(verb, "job_0", "job_1") == 2
    assert shell.out.getvalue() == line


def test_url_that_is_none_is_bad_input() -> None:
    """A sentence and exit code 2."""
    shell = Shell(Script([]))
    assert shell.run("list", "--url", "localhost:8080") == 2
    assert shell.err.getvalue() == "trellis2: 'localhost:8080' is not an http or https URL\n"


def test_service_and_key_come_from_options_before_the_environment() -> None:
    """What is typed wins."""
    environment = {"TRELLIS2_API_KEY": "t2_env", "TRELLIS2_MODAL_KEY": "wk", "TRELLIS2_MODAL_SECRET": "ws"}
    shell = Shell(Script([job()]), environment=environment)
    shell.run("get", "job_1", "--url", "https://other.example.com/prefix/", "--api-key", "t2_typed")
    assert shell.script.lines == ["GET https://other.example.com/prefix/v1/jobs/job_1"]
    headers = shell.script.requests[0].headers
    assert (headers["X-API-Key"], headers["Modal-Key"], headers["Modal-Secret"]) == ("t2_typed", "wk", "ws")


def test_key_that_can_be_none_is_not_sent_and_not_shown() -> None:
    """A line's end within it, say; exit code 5."""
    shell = Shell(Script([]), environment={"TRELLIS2_API_KEY": "t2_secret\nx"})
    assert shell.run("jobs") == 5
    assert shell.err.getvalue() == "trellis2: the API key holds characters that no key has: copy it anew\n"


# --- verbs of other distributions


@dataclass
class EntryPoint:
    """An entry point that notes when it is loaded."""

    name: str
    function: Callable[..., None]
    loads: int = 0

    def load(self) -> Callable[..., None]:
        self.loads += 1
        return self.function


def add_hello(subparsers: Any) -> None:
    parser = subparsers.add_parser("hello", help="say hello")
    parser.add_argument("--to", default="world")
    parser.set_defaults(run=lambda args: len(args.to))


def breaking(_: argparse.ArgumentParser) -> None:
    raise ImportError("no module named 'serve'")


def test_verb_of_another_distribution_runs_and_gives_its_exit_code() -> None:
    """Only the one that was asked for is loaded."""
    hello, other = EntryPoint("hello", add_hello), EntryPoint("other", breaking)
    shell = Shell(Script([]), plugins=[other, hello])
    assert shell.run("hello", "--to", "you") == 3
    assert (hello.loads, other.loads, shell.err.getvalue()) == (1, 0, "")


def test_verb_of_ours_loads_nobody_elses() -> None:
    """A plain `get` is not slowed down, nor broken, by what else is installed."""
    other = EntryPoint("other", breaking)
    assert Shell(Script([job()]), plugins=[other]).run("get", "job_1") == 0
    assert other.loads == 0


def test_version_loads_nobody_elses(capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked for by scripts, often."""
    other = EntryPoint("other", breaking)
    with pytest.raises(SystemExit) as caught:
        Shell(Script([]), plugins=[other]).run("--version")
    assert (caught.value.code, other.loads) == (0, 0)
    assert capsys.readouterr().out.startswith("trellis2 ")


def test_broken_verb_is_named_and_the_help_still_shows_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """One bad distribution does not take the command line down."""
    shell = Shell(Script([]), plugins=[EntryPoint("other", breaking), EntryPoint("hello", add_hello)])
    with pytest.raises(SystemExit) as caught:
        shell.run("--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "say hello" in shown
    assert "Turn pictures into GLB files, many at once." in shown
    assert shell.err.getvalue() == (
        "trellis2: the command `other` is not available: ImportError: no module named 'serve'\n"
    )


def test_broken_verb_that_was_asked_for_is_wrong_usage() -> None:
    """The reason, and exit code 2."""
    shell = Shell(Script([]), plugins=[EntryPoint("other", breaking)])
    with pytest.raises(SystemExit) as caught:
        shell.run("other")
    assert caught.value.code == 2
    assert "ImportError" in shell.err.getvalue()


class Closed(io.StringIO):
    """A pipe whose reader has left."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_reader_who_leaves_early_is_nobodys_error() -> None:
    """`trellis2 list | head -1` complains of nothing."""
    shell = Shell(Script([httpx.Response(200, json={"data": [job_body()], "next_cursor": None})]))
    shell.out = Closed()
    with pytest.raises(BrokenPipeError):
        shell.run("list")
    assert shell.err.getvalue() == ""
