"""A webhook receiver in Flask: verifies, and does the work of each event once.

Run: `TRELLIS2_WEBHOOK_SECRET=whsec_... flask --app receiver_flask run --port 9000`
"""

import os
import sqlite3
from contextlib import closing

from flask import Flask, abort, request
from trellis2_modal.webhooks import WebhookEvent, WebhookInvalid, verify

DATABASE = os.environ.get("RECEIVER_DATABASE", "receiver.sqlite3")
app = Flask(__name__)


@app.post("/hook")
def hear() -> tuple[str, int]:
    """Verify the bytes as they came; 400 for what is not the service's."""
    try:
        event = verify(request.get_data(), request.headers, os.environ["TRELLIS2_WEBHOOK_SECRET"])
    except WebhookInvalid as error:
        abort(400, str(error))
    handle_once(event)
    return "", 204


def handle_once(event: WebhookEvent) -> None:
    """Do the work unless it was done before; where it fails, the event is forgotten again and comes once more."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY)")
        if database.execute("INSERT OR IGNORE INTO seen VALUES (?)", [event.id]).rowcount == 1:
            handle(event)


def handle(event: WebhookEvent) -> None:
    """Your work; it has 15 seconds, so hand what takes longer to a queue of yours."""
    print(event.type, event.data["id"], event.data["custom_id"], flush=True)
