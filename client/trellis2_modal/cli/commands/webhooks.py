"""The command `trellis2 webhooks`: endpoints, and what was sent to them."""

import argparse
from collections.abc import Callable
from itertools import islice

from trellis2_modal.cli.commands.jobs import MOST, SHOWN, age
from trellis2_modal.cli.context import Session, Subparsers, columns, command_parser
from trellis2_modal.cli.exit_codes import Exit, worst
from trellis2_modal.cli.options import names, whole
from trellis2_modal.client import Client
from trellis2_modal.errors import TrellisError
from trellis2_modal.resources.webhooks import Delivery, Endpoint

PORT = 9000
SECRET = "TRELLIS2_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
STATES = ("pending", "delivered", "failed")
_HEAD = ("AGE", "EVENT", "JOB", "STATE", "TRIES", "LAST", "DELIVERY")
_WIDTHS = (6, 15, 30, 9, 5, 9, 0)


def add_webhooks(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 webhooks listen --forward-to http://localhost:3000/3d`."""
    parser = subparsers.add_parser("webhooks", help=sentence, description=sentence, allow_abbrev=False)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_listen(verbs, session)
    _add_list(verbs, session)
    _add_create(verbs, session)
    _add_verb(verbs, session, "enable", "Start disabled endpoints anew.", "ENDPOINT", _enable)
    _add_verb(verbs, session, "test", "Send a message of type webhook.test.", "ENDPOINT", _test)
    _add_verb(
        verbs,
        session,
        "rotate-secret",
        "Replace the secret; `default` is that of URLs which jobs name.",
        "ENDPOINT",
        _rotate,
    )
    _add_verb(verbs, session, "delete", "Remove endpoints.", "ENDPOINT", _delete)
    _add_deliveries(verbs, session)
    _add_verb(verbs, session, "redeliver", "Send messages again, whatever became of them.", "DELIVERY", _redeliver)


def _add_listen(verbs: Subparsers, session: Session) -> None:
    parser = command_parser(verbs, "listen", "Print what the service sends, checked, and pass it on to your receiver.")
    parser.add_argument("--port", type=whole(0, 65_535), default=PORT, metavar="N", help=f"port to listen on ({PORT})")
    parser.add_argument("--public-url", metavar="URL", help="where the service finds that port: of a tunnel")
    parser.add_argument("--forward-to", metavar="URL", help="your receiver; what it answers is answered to the service")
    parser.add_argument("--events", type=names(), metavar="EVENTS", help="job.succeeded, ... by commas; else every end")
    parser.add_argument("--secret", help=f"verify with this and register nothing; better given as ${SECRET}")
    parser.add_argument("--count", type=whole(1, MOST), metavar="N", help="leave after so many messages")

    def run(args: argparse.Namespace) -> int:
        from trellis2_modal.cli.commands.webhooks_listen import (
            listen,  # a server's imports, which no other command needs
        )

        return listen(args, session, args.secret or session.environment.get(SECRET, ""))

    parser.set_defaults(run=session.guarded(run))


def _add_list(verbs: Subparsers, session: Session) -> None:
    parser = command_parser(verbs, "list", "List your endpoints, oldest first.")

    def run(args: argparse.Namespace) -> int:
        with session.client(args) as client:
            for endpoint in client.webhooks.endpoints():
                session.say_either(args, endpoint.raw, _line(endpoint))
        return Exit.DONE

    parser.set_defaults(run=session.guarded(run))


def _add_create(verbs: Subparsers, session: Session) -> None:
    parser = command_parser(verbs, "create", "Register a URL: it is told of the end of every job from now on.")
    parser.add_argument("endpoint_url", metavar="URL", help="https, on the public internet")
    parser.add_argument("--events", type=names(), metavar="EVENTS", help="job.succeeded, ... by commas; else every end")
    parser.add_argument("--description", default="", metavar="TEXT", help="yours")

    def run(args: argparse.Namespace) -> int:
        with session.client(args) as client:
            made = client.webhooks.create(args.endpoint_url, events=args.events, description=args.description)
        if not args.json:
            session.complain(f"{made.id} for {made.url}; keep the next line, it is not shown again")
        session.say_either(args, made.raw, made.secret or "")
        return Exit.DONE

    parser.set_defaults(run=session.guarded(run))


def _add_deliveries(verbs: Subparsers, session: Session) -> None:
    parser = command_parser(verbs, "deliveries", "List what was sent, of the newest jobs first.")
    parser.add_argument("--job", metavar="JOB", help="only of this job")
    parser.add_argument("--status", choices=STATES, metavar="STATE", help=f"only these: {', '.join(STATES)}")
    parser.add_argument("--limit", type=whole(1, MOST), default=SHOWN, metavar="N", help=f"at most this many ({SHOWN})")
    parser.set_defaults(run=session.guarded(lambda args: _list_deliveries(args, session)))


def _list_deliveries(args: argparse.Namespace, session: Session) -> int:
    is_table = session.out.isatty() and not args.json
    with session.client(args) as client:
        sent = client.webhooks.deliveries(job=args.job, status=args.status, page_limit=min(100, args.limit))
        for place, delivery in enumerate(islice(sent, args.limit)):
            if is_table and place == 0:
                session.say(columns(_HEAD, _WIDTHS))
            cells = _cells(delivery, session)
            session.say_either(args, delivery.raw, columns(cells, _WIDTHS) if is_table else "\t".join(cells))
    return Exit.DONE


def _add_verb(
    verbs: Subparsers,
    session: Session,
    name: str,
    sentence: str,
    what: str,
    change: Callable[[Client, str, argparse.Namespace, Session], None],
) -> None:
    parser = command_parser(verbs, name, sentence)
    parser.add_argument("ids", nargs="+", metavar=what)

    def run(args: argparse.Namespace) -> int:
        exits: list[Exit] = []
        with session.client(args) as client:
            for one in args.ids:
                try:
                    change(client, one, args, session)
                except TrellisError as error:
                    exits.append(session.report(error, args, one if len(args.ids) > 1 else ""))
        return worst(exits)

    parser.set_defaults(run=session.guarded(run))


def _enable(client: Client, endpoint_id: str, args: argparse.Namespace, session: Session) -> None:
    endpoint = client.webhooks.enable(endpoint_id)
    session.say_either(args, endpoint.raw, _line(endpoint))


def _test(client: Client, endpoint_id: str, args: argparse.Namespace, session: Session) -> None:
    delivery = client.webhooks.test(endpoint_id)
    session.say_either(args, delivery.raw, delivery.id)


def _rotate(client: Client, endpoint_id: str, args: argparse.Namespace, session: Session) -> None:
    secret = client.webhooks.rotate_secret(endpoint_id)
    if not args.json:
        session.complain(f"{endpoint_id}: keep the next line, it is not shown again; the old secret ends in 24 hours")
    session.say_either(args, {"id": endpoint_id, "secret": secret}, secret)


def _delete(client: Client, endpoint_id: str, args: argparse.Namespace, session: Session) -> None:
    client.webhooks.delete(endpoint_id)
    session.say_either(args, {"id": endpoint_id, "deleted": True}, f"{endpoint_id} deleted")


def _redeliver(client: Client, delivery_id: str, args: argparse.Namespace, session: Session) -> None:
    delivery = client.webhooks.redeliver(delivery_id)
    session.say_either(args, delivery.raw, f"{delivery.id} {delivery.state}")


def _line(endpoint: Endpoint) -> str:
    state = f"disabled, {endpoint.disabled_because}" if endpoint.disabled_at else "live"
    if endpoint.failing_since and not endpoint.disabled_at:
        state = f"failing since {endpoint.failing_since:%Y-%m-%d %H:%M}"
    return f"{endpoint.id}  {state}  {endpoint.url}  {endpoint.description}".rstrip()


def _cells(delivery: Delivery, session: Session) -> tuple[str, ...]:
    last = delivery.attempts[-1].status or "no answer" if delivery.attempts else ""
    how_old = age(delivery.occurred_at, session.now())
    when = how_old if session.out.isatty() else f"{delivery.occurred_at:%Y-%m-%dT%H:%M:%SZ}"
    tries = str(len(delivery.attempts))
    return when, delivery.type, delivery.job_id or "", delivery.state, tries, str(last), delivery.id
