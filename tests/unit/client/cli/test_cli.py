"""The command line: requests, output and exit codes."""

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
from trellis2_modal.cli.commands.jobs import format_age
from trellis2_modal.cli.options import EXPORT, GENERATE
from trellis2_modal.cli.options import PRESETS as PRESET_NAMES
from trellis2_modal.cli.progress import Progress
from trellis2_modal.types.job import Job

from shared.domain.parameters import PRESETS, ExportParameters, Parameters
from tests.unit.client.cli_runner import Shell, Terminal
from tests.unit.client.scripted_transport import GLB, Script, job, job_body, located, model, problem, streamed


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("mug.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return "mug.png"


def glb_response(body: bytes = GLB) -> httpx.Response:
    """A response with the bytes of a model."""
    return streamed(body, content_type="model/gltf-binary")


def succeeded(**fields: Any) -> httpx.Response:
    """A response with a succeeded job."""
    return job("succeeded", artifacts=model(), **fields)


# --- generate


def test_generate_saves_and_lists_the_files(image: str) -> None:
    """GLB and poster at the given paths; sizes on stdout; the stages' times on stderr."""
    poster = {"poster": {"bytes": len(GLB), "sha256": model()["model"]["sha256"]}}
    measured = {"model": model()["model"] | {"bytes": 1_234_567, "triangles": 99_840, "texture_px": 2048}} | poster
    done = job("succeeded", code=202, artifacts=measured, timings={"shape": 2.0, "extract": 3.5})
    shell = Shell(Script([done, located(), glb_response(), located(), glb_response()]))
    assert shell.run("generate", image, "-o", "out/a.glb", "--poster", "out/a.webp") == 0
    assert Path("out/a.glb").read_bytes() == GLB
    assert Path("out/a.webp").read_bytes() == GLB
    assert shell.out.getvalue() == "out/a.glb  1.2 MB  99,840 triangles  2048 px\nout/a.webp  1 kB\n"
    assert shell.err.getvalue() == "mug.png: succeeded\ntrellis2: mug.png: shape 2.0 s, extract 3.5 s; 5.5 s in total\n"


def test_generate_sends_parameters_in_either_spelling(image: str) -> None:
    """TRELLIS.2's names with underscores or hyphens; omitted parameters are not sent."""
    shell = Shell(Script([job(code=202)]))
    code = shell.run(
        *("generate", image, "--no-wait", "--preset", "web", "--seed", "7", "--pipeline-type", "512"),
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


def test_generate_requests_the_formats_that_it_saves_and_real_dimensions(image: str) -> None:
    """A USDZ; lengths as name=value; bytes."""
    usdz = {"usdz": {"bytes": len(GLB), "sha256": model()["model"]["sha256"]}}
    done = job("succeeded", code=202, artifacts=model() | usdz)
    shell = Shell(Script([done, located(), glb_response(), located(), glb_response()]))
    options = ("--usdz", "a.usdz", "--dimensions-m", "width=0.12, fit=exact", "--max-bytes", "4000000")
    assert shell.run("generate", image, *options) == 0
    body = shell.script.requests[0].content.decode(errors="replace")
    for name, value in {
        "formats": '["glb", "usdz"]',
        "dimensions_m": '{"width": 0.12, "fit": "exact"}',
        "max_bytes": "4000000",
    }.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n' in body
    assert Path("a.usdz").read_bytes() == GLB


def test_get_names_the_artifact_that_a_job_lacks(tmp_path: Path) -> None:
    """It saves nothing, and names the command that creates the artifact."""
    shell = Shell(Script([succeeded(), succeeded()]))
    assert shell.run("get", "job_1", "-o", str(tmp_path / "a.glb"), "--usdz", str(tmp_path / "a.usdz")) == 2
    assert shell.err.getvalue().splitlines()[-1] == (
        "trellis2: job_1 has no usdz: `trellis2 export job_1` with --usdz creates it"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["tall", "height=tall", "0.1x0.2"])
def test_invalid_dimensions_are_refused_before_any_request(image: str, text: str) -> None:
    """The message has an example."""
    shell = Shell(Script([]))
    with pytest.raises(SystemExit):
        shell.run("generate", image, "--dimensions-m", text)
    assert shell.script.requests == []


def test_lowered_settings_and_failed_checks_are_reported(image: str) -> None:
    """On stderr, also with --quiet; the exit code is that of a succeeded job."""
    lowered = [{"name": "texture_size", "requested": 4096, "actual": 1024}]
    checks = [
        {"name": "max_triangles", "limit": 100_000, "measured": 120_000, "passed": False},
        {"name": "max_bytes", "limit": 5_000_000, "measured": 4_000_000, "passed": True},
    ]
    record = {"model": model()["model"] | {"lowered": lowered, "dimensions_m": [0.1, 0.2, 0.3]}}
    shell = Shell(Script([job("succeeded", code=202, artifacts=record, checks=checks), located(), glb_response()]))
    assert shell.run("generate", image, "--quiet") == 0
    assert shell.err.getvalue().splitlines() == [
        "trellis2: mug.png: texture_size was lowered from 4096 to 1024, so that the file fits",
        "trellis2: mug.png: max_triangles is 120000; the limit is 100000",
    ]


def test_options_have_every_parameter_and_preset_of_the_service() -> None:
    """The client does not import the service, so this test compares the two lists."""
    assert set(GENERATE) == set(Parameters.model_fields)
    assert set(EXPORT) == set(ExportParameters.model_fields)
    assert set(PRESET_NAMES) == set(PRESETS)


@pytest.mark.parametrize("name", GENERATE)
def test_option_accepts_what_the_service_accepts(name: str) -> None:
    """Both limits of a range and nothing beyond; every choice and no other."""
    schema = Parameters.model_json_schema()["properties"][name]
    schema |= next(iter(schema.get("anyOf", [{}])))
    option = GENERATE[name]
    if "enum" in schema:
        assert option.choices == tuple(map(str, schema["enum"]))
        assert [option.parse(choice) for choice in option.choices] == schema["enum"]
    if "minimum" in schema:
        low, high = schema["minimum"], schema["maximum"]
        assert [option.parse(str(low)), option.parse(str(high))] == [low, high]
        for beyond in (low - 1, high + 1, "nan", "much"):
            with pytest.raises(argparse.ArgumentTypeError, match=f" from {low} to {high}"):
                option.parse(str(beyond))
    assert {"enum", "minimum", "$ref"} & schema.keys() or schema["type"] in ("boolean", "array")


def test_generate_as_json_prints_one_object_a_job(image: str) -> None:
    """The record with the files added, and nothing else on stdout."""
    shell = Shell(Script([job("succeeded", code=202, artifacts=model()), located(), glb_response()]))
    assert shell.run("generate", image, "--json") == 0
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
def test_wrong_usage_sends_no_request(argv: list[str], image: str) -> None:  # noqa: ARG001 - the folder
    """One file for two images, two images with one name, invalid values: exit code 2 before any request."""
    shell = Shell(Script([]))
    with pytest.raises(SystemExit) as caught:
        shell.run("generate", *argv)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("answers", "code", "message"),
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
        ([httpx.ConnectError("refused")] * 6, 3, "does not respond: refused"),
        (
            [
                job("succeeded", artifacts=model()),
                *[located(), glb_response(b"x"), located(), glb_response(b"x"), located(), glb_response(b"x")],
            ],
            1,
            "sha256",
        ),
    ],
    ids=str,
)
def test_each_end_has_its_exit_code_and_message(answers: list[Any], code: int, message: str, image: str) -> None:
    """0 done, 1 failed, 2 refused, 3 unreachable, 4 canceled, 5 not allowed; the message is on stderr."""
    shell = Shell(Script(answers))
    assert shell.run("generate", image) == code
    assert message in shell.err.getvalue()
    assert shell.out.getvalue() == ""


def test_error_as_json_has_code_and_fields(image: str) -> None:
    """JSON on stdout for scripts, one line on stderr for people."""
    shell = Shell(Script([problem(422, "parameter_invalid", errors=[{"pointer": "/seed", "detail": "too large"}])]))
    assert shell.run("generate", image, "--json") == 2
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


def test_failed_job_as_json_is_its_record(image: str) -> None:
    """The record has the reason; `files` is empty."""
    shell = Shell(Script([job("expired", code=202)]))
    assert shell.run("generate", image, "--json") == 1
    assert shell.json_lines == [job_body("expired") | {"files": {}, "image": "mug.png"}]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (problem(401), "It is so.; set TRELLIS2_API_KEY; `trellis2 keys create NAME` on the service's machine"),
        (problem(404, "job_not_found"), "It is so.; `trellis2 jobs` lists yours"),
        (problem(429, headers={"Retry-After": "7"}), "It is so.; try again in 7 s"),
        (
            problem(422, errors=[{"pointer": "/seed", "detail": "too\nlarge"}, {"pointer": "/lane", "detail": "no"}]),
            "seed: too large; lane: no",
        ),
        (problem(422, errors=[{"pointer": "/image", "detail": "It is so."}]), "It is so."),
        (
            httpx.ConnectError("[Errno 111] Connection refused"),
            "does not respond: Connection refused; set the service's URL with --url",
        ),
        (httpx.ReadTimeout("too late"), "https://3d.example.com/ does not respond: too late"),
        (httpx.Response(200, html="<html>"), "the response from https://3d.example.com/ is not the service's"),
    ],
    ids=str,
)
def test_error_is_one_line_with_a_hint(answer: Any, sentence: str) -> None:
    """For errors of the service and of the network."""
    shell = Shell(Script([answer] * 3))
    assert shell.run("get", "job_1") != 0
    assert sentence in shell.err.getvalue()
    assert shell.err.getvalue().count("\n") == 1


def test_retryable_failure_names_the_command_that_retries(image: str) -> None:
    """With the job's id; a failure that is not retryable has no hint."""
    for retryable, ending in ((True, "; `trellis2 retry job_1` runs it again\n"), (False, "failed: lost\n")):
        shell = Shell(Script([job("failed", error={"code": "lost", "detail": "lost", "retryable": retryable})]))
        shell.run("generate", image)
        assert shell.err.getvalue().endswith(ending)


def test_result_that_cannot_be_saved_names_the_command_that_saves_it_elsewhere(image: str) -> None:
    """The job has succeeded, but its folder was replaced in the meantime."""

    def replace_folder(_: httpx.Request) -> httpx.Response:
        Path("out").rmdir()
        Path("out").write_text("a file")
        return job("succeeded", code=202, artifacts=model())

    shell = Shell(Script([replace_folder]))
    assert shell.run("generate", image, "-o", "out/a.glb") == 2
    assert shell.err.getvalue().splitlines()[-1] == (
        "trellis2: mug.png: out/a.glb cannot be written: File exists; `trellis2 get job_1 -o FOLDER` saves it elsewhere"
    )


def test_wrong_usage_as_json_is_an_error_object(image: str) -> None:
    """One line on stdout, one on stderr."""
    shell = Shell(Script([]))
    with pytest.raises(SystemExit):
        shell.run("generate", image, "--seed", "x", "--json")
    [line] = shell.json_lines
    assert line["error"]["code"] == "wrong_usage"
    assert "'x' is not a whole number from 0" in line["error"]["detail"]


def test_unknown_command_or_option_suggests_the_most_similar() -> None:
    """At every level."""
    for argv, similar in ((["genrate"], "generate"), (["batch", "rum"], "run"), (["batch", "list", "--jsn"], "--json")):
        shell = Shell(Script([]))
        with pytest.raises(SystemExit):
            shell.run(*argv)
        assert f"did you mean {similar}?" in shell.err.getvalue()


def test_missing_image_is_refused_by_name(image: str) -> None:  # noqa: ARG001 - the folder
    """The operating system's message, exit code 2."""
    shell = Shell(Script([]))
    assert shell.run("generate", "missing.png", "--json") == 2
    assert shell.err.getvalue() == "trellis2: missing.png: No such file or directory\n"
    assert shell.json_lines[0]["error"]["code"] == "file_error"


def interrupt(_: httpx.Request) -> httpx.Response:
    raise KeyboardInterrupt


def test_ctrl_c_cancels_the_running_job(image: str) -> None:
    """It prints the id; exit code 4."""
    shell = Shell(Script([job(code=202), interrupt, job("canceled")]))
    assert shell.run("generate", image) == 4
    assert shell.script.lines[-1] == "POST https://3d.example.com/v1/jobs/job_1/cancel"
    assert "trellis2: canceling mug.png (job_1); press Ctrl-C again to let it run\n" in shell.err.getvalue()


def test_second_ctrl_c_lets_the_job_run(image: str) -> None:
    """The command exits at once."""
    shell = Shell(Script([job(code=202), interrupt, interrupt]))
    assert shell.run("generate", image) == 4
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


def follow_stages(shell: Shell, image: str) -> str:
    """Run a job through STAGES and return stderr."""
    stream = streamed(*(f"data: {json.dumps(body)}\n\n".encode() for body in STAGES))
    shell.script.answers += [job(code=202), stream, located(), glb_response()]
    assert shell.run("generate", image) == 0
    return shell.err.getvalue()


def test_progress_in_a_log_is_a_line_for_each_stage(image: str) -> None:
    """No control characters, no repetition."""
    assert follow_stages(Shell(Script([])), image).splitlines() == [
        "mug.png: queued",
        "mug.png: queued, 3 before",
        "mug.png: starting",
        "mug.png: sparse structure",
        "mug.png: shape",
        "mug.png: succeeded",
    ]


def test_progress_on_a_terminal_is_one_redrawn_line(image: str) -> None:
    """A bar by stage with elapsed and remaining time, removed at the end."""
    drawn = follow_stages(Shell(Script([]), err=Terminal()), image)
    assert "\n" not in drawn
    frames = [frame.removesuffix("\x1b[K") for frame in drawn.split("\r")]
    assert frames[1] == "mug.png  sending           [------------------------------]   0%  0:00"
    assert frames[6] == "mug.png  shape             [############------------------]  40%  0:00, about 1:15 to go"
    assert frames[-1] == ""


def test_progress_advances_the_time_between_two_snapshots(image: str) -> None:
    """While no event arrives; after `clear` nothing is drawn."""
    shell = Shell(Script([]), err=Terminal())
    progress = Progress(shell.err, lambda: 80, shell.script.clock)
    progress.tick()
    progress.show(image, Job.from_json(STAGES[3]))
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
def test_progress_fits_the_terminal(columns: int, image: str) -> None:
    """A frame never wraps, with any width and any length of the image's name."""
    Path(image).rename("an-image-of-a-mug-on-a-wooden-table.png")
    image = "an-image-of-a-mug-on-a-wooden-table.png"
    drawn = follow_stages(Shell(Script([]), err=Terminal(), columns=columns), image)
    assert max(len(frame.removesuffix("\x1b[K")) for frame in drawn.split("\r")) < columns


def test_quiet_prints_only_the_results(image: str) -> None:
    """stderr is empty."""
    shell = Shell(
        Script([job("succeeded", code=202, artifacts=model(), timings={"shape": 1.0}), located(), glb_response()])
    )
    assert shell.run("generate", image, "-q") == 0
    assert shell.err.getvalue() == ""


# --- the other commands


def test_export_saves_a_new_file_of_an_old_job(image: str) -> None:  # noqa: ARG001 - the folder
    """The new job's GLB, named by its id by default."""
    shell = Shell(Script([succeeded(), succeeded(id="job_2"), located(), glb_response()]))
    assert shell.run("export", "job_1", "--preset", "mobile", "--texture-format", "webp") == 0
    assert json.loads(shell.script.requests[1].content) == {"preset": "mobile", "texture_format": "webp"}
    assert Path("job_2.glb").read_bytes() == GLB


def test_get_shows_a_job() -> None:
    """As a few lines of text."""
    shell = Shell(Script([job("running", stage="shape", progress=0.42, seed=7)]))
    assert shell.run("get", "job_1") == 0
    assert shell.out.getvalue().splitlines() == [
        "job       job_1",
        "status    running, shape, 42%",
        "created   2026-01-01 00:00:00 UTC",
        "seed      7",
    ]


def test_get_as_json_is_the_record() -> None:
    """Unchanged."""
    shell = Shell(Script([succeeded()]))
    assert shell.run("get", "job_1", "--json") == 0
    assert shell.json_lines == [job_body("succeeded", artifacts=model())]


def test_get_saves_only_the_requested_artifacts(image: str) -> None:  # noqa: ARG001 - the folder
    """A poster only, without the model."""
    record = {"poster": model()["model"]}
    shell = Shell(Script([job("succeeded", artifacts=record), located(), glb_response()]))
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
    """The newest up to the limit, with age, status and cost; a note says that there are more."""
    shell = Shell(Script([page(*LISTED)]), now=datetime(2026, 1, 1, 2, 30, tzinfo=UTC))
    shell.out = Terminal()
    assert shell.run(verb, "--limit", "2") == 0
    assert shell.out.getvalue().splitlines() == [
        "JOB                             AGE     STATUS                          COST     PRESET       NAME",
        "job_1                           2 h     failed                          $0.026   web",
        "job_1                           2 h     running, shape, 50%                                   SKU 1",
    ]
    assert shell.err.getvalue() == "trellis2: there are more: list them with --limit N or --all\n"
    assert shell.script.lines == ["GET https://3d.example.com/v1/jobs?limit=3"]


def test_jobs_in_a_pipe_are_fields_between_tabs() -> None:
    """Without a header, with sortable times."""
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


def test_jobs_with_several_statuses_are_one_list() -> None:
    """Newest first, whatever their status."""
    times = {"job_3": "2026-01-03T00:00:00Z", "job_2": "2026-01-02T00:00:00Z", "job_1": "2026-01-01T00:00:00Z"}
    bodies = {name: job_body(id=name, created_at=at) for name, at in times.items()}
    shell = Shell(Script([page(bodies["job_2"]), page(bodies["job_3"], bodies["job_1"])]))
    assert shell.run("jobs", "--status", "unfinished", "--json") == 0
    assert [line["id"] for line in shell.json_lines] == ["job_3", "job_2", "job_1"]
    assert [line.partition("status=")[2] for line in shell.script.lines] == ["queued", "running"]


def test_empty_list_of_jobs_is_reported() -> None:
    """On a terminal only."""
    shell = Shell(Script([page(), page()]))
    assert (shell.run("jobs"), shell.err.getvalue()) == (0, "")
    shell.out = Terminal()
    assert (shell.run("jobs"), shell.err.getvalue()) == (0, "trellis2: no such jobs\n")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "now"), (0, "now"), (59, "59 s"), (61, "1 min"), (7_000, "1 h"), (3 * 86_400, "3 d")],
)
def test_age_has_one_unit(seconds: int, expected: str) -> None:
    """The largest that fits; never negative, even if the clock is behind the service's."""
    then = datetime(2026, 1, 1, tzinfo=UTC)
    assert format_age(then, then + timedelta(seconds=seconds)) == expected


@pytest.mark.parametrize(
    ("verb", "answer", "line"),
    [
        ("cancel", job("canceled"), "job_1 canceled\n"),
        ("retry", job("queued", code=202), "job_1 queued\n"),
        ("delete", httpx.Response(204), "job_1 deleted\n"),
    ],
)
def test_operation_on_several_jobs_continues_after_an_unknown_one(verb: str, answer: httpx.Response, line: str) -> None:
    """Each job is reported; the exit code is that of the error."""
    shell = Shell(Script([problem(404), job("failed"), answer]))
    assert shell.run(verb, "job_0", "job_1") == 2
    assert shell.out.getvalue() == line


def test_invalid_url_is_refused() -> None:
    """With a message and exit code 2."""
    shell = Shell(Script([]))
    assert shell.run("list", "--url", "localhost:8080") == 2
    assert shell.err.getvalue() == "trellis2: 'localhost:8080' is not an http or https URL\n"


def test_options_override_the_environment() -> None:
    """URL and API key."""
    environment = {"TRELLIS2_API_KEY": "t2_env", "TRELLIS2_MODAL_KEY": "wk", "TRELLIS2_MODAL_SECRET": "ws"}
    shell = Shell(Script([job()]), environment=environment)
    shell.run("get", "job_1", "--url", "https://other.example.com/prefix/", "--api-key", "t2_typed")
    assert shell.script.lines == ["GET https://other.example.com/prefix/v1/jobs/job_1"]
    headers = shell.script.requests[0].headers
    assert (headers["X-API-Key"], headers["Modal-Key"], headers["Modal-Secret"]) == ("t2_typed", "wk", "ws")


def test_key_with_invalid_characters_is_not_sent_and_not_shown() -> None:
    """Such as a line break; exit code 5."""
    shell = Shell(Script([]), environment={"TRELLIS2_API_KEY": "t2_secret\nx"})
    assert shell.run("jobs") == 5
    assert shell.err.getvalue() == "trellis2: the API key has characters that no key has: copy it again\n"


# --- plugins: commands of other distributions


@dataclass
class EntryPoint:
    """An entry point that counts its loads."""

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


def fail_to_load(_: argparse.ArgumentParser) -> None:
    raise ImportError("no module named 'serve'")


def test_plugin_runs_and_returns_its_exit_code() -> None:
    """Only the requested one is loaded."""
    hello, other = EntryPoint("hello", add_hello), EntryPoint("other", fail_to_load)
    shell = Shell(Script([]), plugins=[other, hello])
    assert shell.run("hello", "--to", "you") == 3
    assert (hello.loads, other.loads, shell.err.getvalue()) == (1, 0, "")


def test_built_in_command_loads_no_plugin() -> None:
    """Other distributions can neither slow down nor break `get`."""
    other = EntryPoint("other", fail_to_load)
    assert Shell(Script([job()]), plugins=[other]).run("get", "job_1") == 0
    assert other.loads == 0


def test_version_loads_no_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts call it often."""
    other = EntryPoint("other", fail_to_load)
    with pytest.raises(SystemExit) as caught:
        Shell(Script([]), plugins=[other]).run("--version")
    assert (caught.value.code, other.loads) == (0, 0)
    assert capsys.readouterr().out.startswith("trellis2 ")


def test_help_names_a_broken_plugin_and_shows_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """A broken distribution does not break the command line."""
    shell = Shell(Script([]), plugins=[EntryPoint("other", fail_to_load), EntryPoint("hello", add_hello)])
    with pytest.raises(SystemExit) as caught:
        shell.run("--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "say hello" in shown
    assert "Turn images into GLB files, many at once." in shown
    assert shell.err.getvalue() == (
        "trellis2: the command `other` is not available: ImportError: no module named 'serve'\n"
    )


def test_broken_plugin_that_is_requested_is_wrong_usage() -> None:
    """With the reason and exit code 2."""
    shell = Shell(Script([]), plugins=[EntryPoint("other", fail_to_load)])
    with pytest.raises(SystemExit) as caught:
        shell.run("other")
    assert caught.value.code == 2
    assert "ImportError" in shell.err.getvalue()


class Closed(io.StringIO):
    """A pipe whose reader has closed it."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_closed_stdout_is_not_reported() -> None:
    """`trellis2 list | head -1` prints no error."""
    shell = Shell(Script([httpx.Response(200, json={"data": [job_body()], "next_cursor": None})]))
    shell.out = Closed()
    with pytest.raises(BrokenPipeError):
        shell.run("list")
    assert shell.err.getvalue() == ""
