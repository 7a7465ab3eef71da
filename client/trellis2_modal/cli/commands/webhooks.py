"""The command `trellis2 webhooks`: endpoints, and the deliveries to them."""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any

from trellis2_modal.cli.commands.jobs import MOST, add_limit, format_age
from trellis2_modal.cli.context import Result, Session, format_columns, operation_parser
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.options import integer, name_list
from trellis2_modal.cli.parsers import Subparsers, command_group, command_parser
from trellis2_modal.client import Client
from trellis2_modal.resources.webhooks import Delivery, Endpoint, Webhooks

PORT = 9000
SECRET = "TRELLIS2_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
STATES = ("pending", "delivered", "failed")
_HEADER = ("AGE", "EVENT", "JOB", "STATE", "TRIES", "LAST", "DELIVERY")
_WIDTHS = (6, 15, 30, 9, 5, 9, 0)


def add_webhooks(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 webhooks listen --forward-to http://localhost:3000/3d`."""
    commands = command_group(subparsers, name, help)
    _add_listen(commands, session)
    command_parser(commands, session, "list", "List your endpoints, oldest first.", _list)
    create = command_parser(commands, session, "create", "Register a URL for the events of all jobs that end.", _create)
    create.add_argument("endpoint_url", metavar="URL", help="https, on the public internet")
    _add_events(create)
    create.add_argument("--description", default="", metavar="TEXT", help="your own note")
    rotate_help = "Replace the secret; `default` is the secret for URLs that jobs name."
    for verb, sentence, operation in (
        ("enable", "Enable disabled endpoints again.", partial(_apply, Webhooks.enable, _format_endpoint)),
        ("test", "Send an event of type webhook.test.", partial(_apply, Webhooks.test, attrgetter("id"))),
        ("rotate-secret", rotate_help, partial(_rotate_secret, session)),
        ("delete", "Delete endpoints.", _delete),
    ):
        operation_parser(commands, session, verb, sentence, operation, "ENDPOINT")
    deliveries_help = "List deliveries, those of the newest jobs first."
    deliveries = command_parser(commands, session, "deliveries", deliveries_help, _list_deliveries)
    deliveries.add_argument("--job", metavar="JOB", help="only of this job")
    meaning = f"only with this state: {', '.join(STATES)}"
    deliveries.add_argument("--status", choices=STATES, metavar="STATE", help=meaning)
    add_limit(deliveries)
    redeliver = partial(_apply, Webhooks.redeliver, lambda delivery: f"{delivery.id} {delivery.state}")
    operation_parser(commands, session, "redeliver", "Send events again, in any state.", redeliver, "DELIVERY")


def _add_events(parser: argparse.ArgumentParser) -> None:
    meaning = "job.succeeded, ... separated by commas; default: every terminal event"
    parser.add_argument("--events", type=name_list(), metavar="EVENTS", help=meaning)


def _add_listen(commands: Subparsers, session: Session) -> None:
    sentence = "Print the service's events after verifying them, and forward them to your receiver."
    parser = command_parser(commands, session, "listen", sentence, _listen)
    parser.add_argument(
        "--port", type=integer(0, 65_535), default=PORT, metavar="N", help=f"port to listen on ({PORT})"
    )
    parser.add_argument("--public-url", metavar="URL", help="the URL of a tunnel to that port")
    parser.add_argument("--forward-to", metavar="URL", help="your receiver; its response is returned to the service")
    _add_events(parser)
    parser.add_argument("--secret", help=f"verify with this and register nothing; prefer ${SECRET}")
    parser.add_argument("--count", type=integer(1, MOST), metavar="N", help="exit after this many events")


def _listen(args: argparse.Namespace, session: Session) -> int:
    from trellis2_modal.cli.commands.webhooks_listen import listen  # loads a server, which no other command needs

    return listen(args, session, args.secret or session.environment.get(SECRET, ""))


def _list(args: argparse.Namespace, session: Session) -> int:
    with session.client(args) as client:
        for endpoint in client.webhooks.endpoints():
            session.print_result(args, endpoint.raw, _format_endpoint(endpoint))
    return Exit.DONE


def _create(args: argparse.Namespace, session: Session) -> int:
    with session.client(args) as client:
        endpoint = client.webhooks.create(args.endpoint_url, events=args.events, description=args.description)
    if not args.json:
        session.print_error(f"{endpoint.id} for {endpoint.url}; the next line is its secret and is not shown again")
    session.print_result(args, endpoint.raw, endpoint.secret or "")
    return Exit.DONE


def _list_deliveries(args: argparse.Namespace, session: Session) -> int:
    is_table = session.out.isatty() and not args.json
    with session.client(args) as client:
        deliveries = client.webhooks.deliveries(job=args.job, status=args.status, page_limit=min(100, args.limit))
        for index, delivery in enumerate(islice(deliveries, args.limit)):
            if is_table and index == 0:
                session.print(format_columns(_HEADER, _WIDTHS))
            cells = _cells(delivery, session)
            session.print_result(args, delivery.raw, format_columns(cells, _WIDTHS) if is_table else "\t".join(cells))
    return Exit.DONE


def _apply(
    operation: Callable[[Webhooks, str], Any],
    describe: Callable[[Any], str],
    client: Client,
    item: str,
    _args: argparse.Namespace,
) -> Result:
    record = operation(client.webhooks, item)
    return record.raw, describe(record)


def _delete(client: Client, endpoint_id: str, _args: argparse.Namespace) -> Result:
    client.webhooks.delete(endpoint_id)
    return {"id": endpoint_id, "deleted": True}, f"{endpoint_id} deleted"


def _rotate_secret(session: Session, client: Client, endpoint_id: str, args: argparse.Namespace) -> Result:
    secret = client.webhooks.rotate_secret(endpoint_id)
    if not args.json:
        note = "the next line is the new secret and is not shown again; the old one is valid for 24 hours"
        session.print_error(f"{endpoint_id}: {note}")
    return {"id": endpoint_id, "secret": secret}, secret


def _format_endpoint(endpoint: Endpoint) -> str:
    state = f"disabled, {endpoint.disabled_because}" if endpoint.disabled_at else "active"
    if endpoint.failing_since and not endpoint.disabled_at:
        state = f"failing since {endpoint.failing_since:%Y-%m-%d %H:%M}"
    return f"{endpoint.id}  {state}  {endpoint.url}  {endpoint.description}".rstrip()


def _cells(delivery: Delivery, session: Session) -> tuple[str, ...]:
    last = delivery.attempts[-1].status or "no answer" if delivery.attempts else ""
    age = format_age(delivery.occurred_at, session.now())
    when = age if session.out.isatty() else f"{delivery.occurred_at:%Y-%m-%dT%H:%M:%SZ}"
    tries = str(len(delivery.attempts))
    return when, delivery.type, delivery.job_id or "", delivery.state, tries, str(last), delivery.id
