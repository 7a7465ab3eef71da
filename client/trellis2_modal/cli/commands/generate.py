"""The commands that save results: generate, export, get."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trellis2_modal._http import TRIES
from trellis2_modal.cli.commands.jobs import describe
from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.files import SUFFIXES, find_images, label_of, target_files
from trellis2_modal.cli.job_runner import JobRunner, PendingJob, make_folders
from trellis2_modal.cli.options import EXPORT, GENERATE, LANES, Option, add_parameters, given_parameters, integer
from trellis2_modal.cli.parsers import Subparsers, WrongUsage, command_parser
from trellis2_modal.errors import TrellisError

AT_ONCE = 16
OTHER_FORMATS = ("usdz", "meshopt")


def add_generate(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 generate mug.png -o mug.glb --preset web`."""
    parser = command_parser(subparsers, session, name, help, _generate)
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a PNG, JPEG or WebP file, an https URL, a folder of images, or a pattern such as 'photos/**/*.png'",
    )
    output = "a file, or a folder for several images; may contain {name}, {folder} and {number}; default: here"
    _add_targets(parser, output)
    parser.add_argument("--engine", help="the engine that creates the asset; default: the service's")
    parser.add_argument("--lane", choices=LANES, metavar="LANE", help=", ".join(LANES))
    parser.add_argument("--custom-id", metavar="NAME", help="your own name for the job")
    parser.add_argument("--no-wait", action="store_true", help="submit, print the jobs, and exit")
    parser.add_argument(
        "--at-once",
        type=integer(1, 100),
        default=AT_ONCE,
        metavar="N",
        help=f"number of images that the service works on at the same time, 1-100 ({AT_ONCE})",
    )
    add_parameters(parser, GENERATE)


def add_export(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 export JOB -o small.glb --preset mobile`."""
    parser = command_parser(subparsers, session, name, help, _export)
    parser.add_argument("job", metavar="JOB")
    _add_targets(parser, "file of the GLB; default: <new job>.glb")
    add_parameters(parser, EXPORT)


def add_get(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 get JOB -o mug.glb`."""
    parser = command_parser(subparsers, session, name, help, _get)
    parser.add_argument("jobs", nargs="+", metavar="JOB")
    _add_targets(parser, "file of the GLB; a folder for several jobs")


def _add_targets(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument("-o", "--output", metavar="PATH", help=output)
    parser.add_argument("--poster", metavar="PATH", help="save the rendered image (WebP), likewise")
    parser.add_argument("--usdz", metavar="PATH", help="request and save a USDZ for AR on iOS, likewise")
    parser.add_argument("--meshopt", metavar="PATH", help="request and save a GLB with meshopt compression, likewise")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def _generate(args: argparse.Namespace, session: Session) -> int:
    images = find_images(args.images)
    files = _target_files(args, images, {"model": args.output or "."})
    if not args.no_wait:
        make_folders(path for paths in files.values() for path in paths.values())
    labels = {"preset": args.preset, "engine": args.engine, "lane": args.lane, "custom_id": args.custom_id}
    fields = labels | _parameters(args, GENERATE)
    runner = JobRunner(args, session)
    with session.client(args, TRIES) as client:

        def generate(image: str) -> Exit:
            label, more = label_of(image), {"image": image}
            runner.begin(image, label)
            try:
                handle = client.submit(image, **fields)
            except (TrellisError, OSError) as error:
                return runner.report(error, image, label, more)
            job = PendingJob(handle, image, label, files[image], more)
            if args.no_wait:
                return runner.print_submitted(job, handle.id if len(images) == 1 else f"{handle.id}  {label}")
            return runner.finish(job)

        return runner.run(generate, images, args.at_once, label_of)


def _export(args: argparse.Namespace, session: Session) -> int:
    make_folders(_target_files(args, [args.job], {})[args.job].values())
    runner = JobRunner(args, session)
    with session.client(args, TRIES) as client:

        def export(job_id: str) -> Exit:
            runner.begin(job_id, job_id)
            try:
                handle = client.get(job_id).export(preset=args.preset, **_parameters(args, EXPORT))
            except TrellisError as error:
                return runner.report(error, job_id, "", {})
            files = _target_files(args, [handle.id], {})[handle.id] or {"model": Path(f"{handle.id}.glb")}
            return runner.finish(PendingJob(handle, job_id, handle.id, files))

        return runner.run(export, [args.job], 1, str)


def _get(args: argparse.Namespace, session: Session) -> int:
    files = _target_files(args, args.jobs, {})
    make_folders(path for paths in files.values() for path in paths.values())
    runner = JobRunner(args, session, is_owner=False)
    with session.client(args) as client:

        def get(job_id: str) -> Exit:
            try:
                handle = client.get(job_id)
            except TrellisError as error:
                return runner.report(error, job_id, job_id if len(args.jobs) > 1 else "", {})
            job = PendingJob(handle, job_id, job_id, files[job_id])
            if job.files:
                return runner.finish(job)
            return runner.print_submitted(job, describe(handle.job) + ("\n" if len(args.jobs) > 1 else ""))

        return runner.run(get, args.jobs, AT_ONCE if any(files.values()) else 1, str)


def _parameters(args: argparse.Namespace, options: dict[str, Option]) -> dict[str, Any]:
    """Collect the parameters; a target of another format also requests that format."""
    formats = [name for name in OTHER_FORMATS if getattr(args, name)]
    return ({"formats": ["glb", *formats]} if formats else {}) | given_parameters(args, options)


def _target_files(
    args: argparse.Namespace, names: Sequence[str], defaults: Mapping[str, str]
) -> dict[str, dict[str, Path]]:
    """Map each name to the target files of its requested artifacts."""
    outputs = {"model": args.output, "usdz": args.usdz, "meshopt": args.meshopt, "poster": args.poster}
    files: dict[str, dict[str, Path]] = {name: {} for name in names}
    for artifact, output in outputs.items():
        if path := output or defaults.get(artifact):
            for name, file in zip(names, target_files(names, path, SUFFIXES[artifact]), strict=True):
                if file in files[name].values():
                    raise WrongUsage(f"two results of {label_of(name)} would both be written to {file}")
                files[name][artifact] = file
    return files
