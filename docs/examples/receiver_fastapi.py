"""A webhook receiver in FastAPI: verifies, and does the work of each event once.

Run: `TRELLIS2_WEBHOOK_SECRET=whsec_... uvicorn receiver_fastapi:app --port 9000`
"""

import os
import sqlite3
from contextlib import closing

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from trellis2_modal.webhooks import WebhookEvent, WebhookInvalid, verify

DATABASE = os.environ.get("RECEIVER_DATABASE", "receiver.sqlite3")
app = FastAPI()


@app.post("/hook", status_code=204)
async def hear(request: Request) -> None:
    """Verify the bytes as they came; 400 for what is not the service's."""
    try:
        event = verify(await request.body(), request.headers, os.environ["TRELLIS2_WEBHOOK_SECRET"])
    except WebhookInvalid as error:
        raise HTTPException(400, str(error)) from error
    await run_in_threadpool(handle_once, event)


def handle_once(event: WebhookEvent) -> None:
    """Do the work unless it was done before; where it fails, the event is forgotten again and comes once more."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY)")
        if database.execute("INSERT OR IGNORE INTO seen VALUES (?)", [event.id]).rowcount == 1:
            handle(event)


def handle(event: WebhookEvent) -> None:
    """Your work; it has 15 seconds, so hand what takes longer to a queue of yours."""
    print(event.type, event.data["id"], event.data["custom_id"], flush=True)
