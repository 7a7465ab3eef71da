"""The commands that end with files: generate, export, get."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trellis2_modal.cli.delivery import Delivery, Order, delivering
from trellis2_modal.cli.exits import Exit
from trellis2_modal.cli.jobs import describe
from trellis2_modal.cli.parameters import EXPORT, GENERATE, Option, add_parameters, given
from trellis2_modal.cli.session import Session, Subparsers, command_parser
from trellis2_modal.cli.targets import TargetsUnclear, label_of, targets
from trellis2_modal.errors import TrellisError

OTHER_FORMATS = ("usdz", "meshopt")
SUFFIXES = {"model": ".glb", "usdz": ".usdz", "meshopt": ".meshopt.glb", "poster": ".webp"}


def add_generate(subparsers: Subparsers, session: Session) -> None:
    """`trellis2 generate mug.png -o mug.glb --preset web`."""
    parser = command_parser(subparsers, "generate", "Turn pictures into GLB files.")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="a PNG, JPEG or WebP file, or an https URL")
    _add_files(parser, "a file, or a folder for several pictures; else beside you, named for the picture")
    parser.add_argument("--engine", help="what makes the asset; else the service's own choice")
    parser.add_argument("--lane", help="interactive, standard or batch")
    parser.add_argument("--custom-id", help="your name for the job")
    parser.add_argument("--no-wait", action="store_true", help="submit, print the job, and leave")
    add_parameters(parser, GENERATE)
    parser.set_defaults(run=session.guarded(lambda args: _generate(args, session, parser)))


def add_export(subparsers: Subparsers, session: Session) -> None:
    """`trellis2 export JOB -o small.glb --preset mobile`."""
    parser = command_parser(subparsers, "export", "Make another GLB of a finished job's shape, without sampling again.")
    parser.add_argument("job", metavar="JOB")
    _add_files(parser, "where the GLB goes; else <new job>.glb")
    add_parameters(parser, EXPORT)
    parser.set_defaults(run=session.guarded(lambda args: _export(args, session)))


def add_get(subparsers: Subparsers, session: Session) -> None:
    """`trellis2 get JOB -o mug.glb`."""
    parser = command_parser(
        subparsers, "get", "Show a job; with -o, --poster and the like wait for it and save its results."
    )
    parser.add_argument("job", metavar="JOB")
    _add_files(parser, "where the GLB goes")
    parser.set_defaults(run=session.guarded(lambda args: _get(args, session)))


def _add_files(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("-o", "--output", metavar="PATH", help=meaning)
    parser.add_argument("--poster", metavar="PATH", help="save the rendered picture (WebP), likewise")
    parser.add_argument("--usdz", metavar="PATH", help="save the USDZ for AR on iOS, likewise; also asks for it")
    parser.add_argument("--meshopt", metavar="PATH", help="save the packed GLB, likewise; also asks for it")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _generate(args: argparse.Namespace, session: Session, parser: argparse.ArgumentParser) -> int:
    try:
        files = _paths(args, args.pictures) | {"model": targets(args.pictures, args.output, SUFFIXES["model"])}
    except TargetsUnclear as error:
        parser.error(str(error))
    labels = {"preset": args.preset, "engine": args.engine, "lane": args.lane, "custom_id": args.custom_id}
    exits: list[Exit] = []
    with session.client(args) as client, delivering(args, session) as delivery:
        for index, picture in enumerate(args.pictures):
            try:
                handle = client.submit(picture, **labels, **_parameters(args, GENERATE))
            except (TrellisError, OSError) as error:
                exits.append(session.report(error, args))
                continue
            delivery.orders.append(
                Order(handle, label_of(picture), {artifact: paths[index] for artifact, paths in files.items()})
            )
        exits += [delivery.announce(order) if args.no_wait else delivery.finish(order) for order in delivery.orders]
    return next((code for code in exits if code), Exit.DONE)


def _export(args: argparse.Namespace, session: Session) -> int:
    with session.client(args) as client, delivering(args, session) as delivery:
        handle = client.get(args.job).export(preset=args.preset, **_parameters(args, EXPORT))
        order = Order(handle, handle.id, _files(args, handle.id) or {"model": Path(f"{handle.id}.glb")})
        delivery.orders.append(order)
        return delivery.finish(order)


def _get(args: argparse.Namespace, session: Session) -> int:
    with session.client(args) as client:
        handle = client.get(args.job)
        if files := _files(args, args.job):
            return Delivery(args, session).finish(Order(handle, handle.id, files))
        if args.json:
            session.say_json(handle.job.raw)
        else:
            session.say(describe(handle.job))
        return Exit.DONE


def _parameters(args: argparse.Namespace, options: dict[str, Option]) -> dict[str, Any]:
    """What was given; who wants another format saved need not ask for it twice."""
    wanted = [name for name in OTHER_FORMATS if getattr(args, name)]
    return ({"formats": ["glb", *wanted]} if wanted else {}) | given(args, options)


def _files(args: argparse.Namespace, name: str) -> dict[str, Path]:
    """What was asked for by name; a folder takes files that are named for the job."""
    return {artifact: paths[0] for artifact, paths in _paths(args, [name]).items()}


def _paths(args: argparse.Namespace, names: Sequence[str]) -> dict[str, list[Path]]:
    """Where each artifact that was asked for goes, a file for each name."""
    asked = {"model": args.output, "usdz": args.usdz, "meshopt": args.meshopt, "poster": args.poster}
    return {artifact: targets(names, path, SUFFIXES[artifact]) for artifact, path in asked.items() if path}
