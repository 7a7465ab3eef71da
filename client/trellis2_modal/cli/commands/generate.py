"""The commands that end with files: generate, export, get."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trellis2_modal._http import TRIES
from trellis2_modal.cli.commands.jobs import describe
from trellis2_modal.cli.context import Session, Subparsers, command_parser
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.input_files import NoPictures, pictures_of
from trellis2_modal.cli.job_runner import JobRunner, PendingJob, make_folders
from trellis2_modal.cli.options import EXPORT, GENERATE, LANES, Option, add_parameters, given, whole
from trellis2_modal.cli.output.output_files import TargetsUnclear, label_of, targets
from trellis2_modal.errors import TrellisError
from trellis2_modal.resources.jobs import JobHandle

AT_ONCE = 16
OTHER_FORMATS = ("usdz", "meshopt")
SUFFIXES = {"model": ".glb", "usdz": ".usdz", "meshopt": ".meshopt.glb", "poster": ".webp"}


def add_generate(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 generate mug.png -o mug.glb --preset web`."""
    parser = command_parser(subparsers, "generate", sentence)
    parser.add_argument(
        "images",
        nargs="+",
        metavar="PICTURE",
        help="a PNG, JPEG or WebP file, an https URL, a folder of pictures, or a pattern such as 'photos/**/*.png'",
    )
    _add_files(
        parser, "a file, or a folder for several pictures; {name}, {folder} and {number} are filled in; else here"
    )
    parser.add_argument("--engine", help="what makes the asset; else the service's own choice")
    parser.add_argument("--lane", choices=LANES, metavar="LANE", help=", ".join(LANES))
    parser.add_argument("--custom-id", metavar="NAME", help="your name for the job")
    parser.add_argument("--no-wait", action="store_true", help="submit, print the jobs, and leave")
    parser.add_argument(
        "--at-once",
        type=whole(1, 100),
        default=AT_ONCE,
        metavar="N",
        help=f"how many pictures the service has in hand at a time, 1-100 ({AT_ONCE})",
    )
    add_parameters(parser, GENERATE)
    parser.set_defaults(run=session.guarded(lambda args: _generate(args, session, parser)))


def add_export(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 export JOB -o small.glb --preset mobile`."""
    parser = command_parser(subparsers, "export", sentence)
    parser.add_argument("job", metavar="JOB")
    _add_files(parser, "where the GLB goes; else <new job>.glb")
    add_parameters(parser, EXPORT)
    parser.set_defaults(run=session.guarded(lambda args: _export(args, session)))


def add_get(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 get JOB -o mug.glb`."""
    parser = command_parser(subparsers, "get", sentence)
    parser.add_argument("jobs", nargs="+", metavar="JOB")
    _add_files(parser, "where the GLB goes; a folder for several jobs")
    parser.set_defaults(run=session.guarded(lambda args: _get(args, session, parser)))


def _add_files(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("-o", "--output", metavar="PATH", help=meaning)
    parser.add_argument("--poster", metavar="PATH", help="save the rendered picture (WebP), likewise")
    parser.add_argument("--usdz", metavar="PATH", help="save the USDZ for AR on iOS, likewise; also asks for it")
    parser.add_argument("--meshopt", metavar="PATH", help="save the packed GLB, likewise; also asks for it")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _generate(args: argparse.Namespace, session: Session, parser: argparse.ArgumentParser) -> int:
    try:
        pictures = pictures_of(args.images)
        files = _files(args, pictures, {"model": args.output or "."})
    except (NoPictures, TargetsUnclear) as error:
        parser.error(str(error))
    if not args.no_wait:
        make_folders(path for paths in files.values() for path in paths.values())
    labels = {"preset": args.preset, "engine": args.engine, "lane": args.lane, "custom_id": args.custom_id}
    wishes = labels | _parameters(args, GENERATE)
    delivery = JobRunner(args, session)
    with session.client(args, TRIES) as client:

        def make(picture: str) -> Exit:
            label, more = label_of(picture), {"image": picture}
            delivery.begin(picture, label)
            try:
                handle = client.submit(picture, **wishes)
            except (TrellisError, OSError) as error:
                return delivery.report(error, picture, label, more)
            order = PendingJob(handle, picture, label, files[picture], more)
            if args.no_wait:
                return delivery.announce(order, handle.id if len(pictures) == 1 else f"{handle.id}  {label}")
            return delivery.finish(order)

        return delivery.run(make, pictures, args.at_once, label_of)


def _export(args: argparse.Namespace, session: Session) -> int:
    make_folders(_files(args, [args.job], {})[args.job].values())
    delivery = JobRunner(args, session)
    with session.client(args, TRIES) as client:

        def make(job_id: str) -> Exit:
            delivery.begin(job_id, job_id)
            try:
                handle = client.get(job_id).export(preset=args.preset, **_parameters(args, EXPORT))
            except TrellisError as error:
                return delivery.report(error, job_id, "", {})
            files = _files(args, [handle.id], {})[handle.id] or {"model": Path(f"{handle.id}.glb")}
            return delivery.finish(PendingJob(handle, job_id, handle.id, files))

        return delivery.run(make, [args.job], 1, str)


def _get(args: argparse.Namespace, session: Session, parser: argparse.ArgumentParser) -> int:
    try:
        files = _files(args, args.jobs, {})
    except TargetsUnclear as error:
        parser.error(str(error))
    make_folders(path for paths in files.values() for path in paths.values())
    delivery = JobRunner(args, session, is_ours=False)
    with session.client(args) as client:

        def get(job_id: str) -> Exit:
            try:
                handle = client.get(job_id)
            except TrellisError as error:
                return delivery.report(error, job_id, job_id if len(args.jobs) > 1 else "", {})
            if files[job_id]:
                return delivery.finish(PendingJob(handle, job_id, job_id, files[job_id]))
            return delivery.announce(PendingJob(handle, job_id, job_id, {}), _described(handle, args))

        return delivery.run(get, args.jobs, AT_ONCE if any(files.values()) else 1, str)


def _described(handle: JobHandle, args: argparse.Namespace) -> str:
    return describe(handle.job) + ("\n" if len(args.jobs) > 1 else "")


def _parameters(args: argparse.Namespace, options: dict[str, Option]) -> dict[str, Any]:
    """What was given; who wants another format saved need not ask for it twice."""
    wanted = [name for name in OTHER_FORMATS if getattr(args, name)]
    return ({"formats": ["glb", *wanted]} if wanted else {}) | given(args, options)


def _files(args: argparse.Namespace, names: Sequence[str], default: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """Of each name, where each of its artifacts goes that was asked for."""
    asked = {"model": args.output, "usdz": args.usdz, "meshopt": args.meshopt, "poster": args.poster}
    wanted = {artifact: path or default.get(artifact) for artifact, path in asked.items()}
    found: dict[str, dict[str, Path]] = {name: {} for name in names}
    for artifact, path in wanted.items():
        if path:
            for name, file in zip(names, targets(names, path, SUFFIXES[artifact]), strict=True):
                if file in found[name].values():
                    raise TargetsUnclear(f"two results of {label_of(name)} would both be written to {file}")
                found[name][artifact] = file
    return found
