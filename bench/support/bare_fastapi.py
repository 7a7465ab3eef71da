"""The peer of the gateway: a FastAPI route that writes one file with fsync, and an empty one."""

import itertools
import os
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class SubmitBody(BaseModel):
    """A body of about the size of a submit."""

    image: dict[str, str]


def build_app(folder: Path) -> FastAPI:
    """Build the peer."""
    app = FastAPI()
    numbers = itertools.count()

    @app.post("/write", status_code=202)
    def write(body: SubmitBody) -> dict[str, str]:
        name = str(next(numbers))
        with Path(folder, name).open("xb") as file:
            file.write(body.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        return {"id": name}

    @app.get("/read")
    async def read() -> dict[str, str]:
        return {"status": "queued"}

    return app


if __name__ == "__main__":
    uvicorn.run(build_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
