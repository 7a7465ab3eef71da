"""x"""

from fastapi import FastAPI


def add_openapi(app: FastAPI) -> None: ...
