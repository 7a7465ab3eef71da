"""How one answer leads to the next request: the links of the OpenAPI document, which tools follow by themselves."""

from typing import Any

_ID = "$response.body#/id"
# By operation: the parameter that its id is for, and the operations that take it.
_LED_TO: dict[str, tuple[str, tuple[str, ...]]] = {
    "submit_job": ("job_id", ("read_job", "follow_job", "cancel_job", "retry_job", "export_job", "delete_job")),
    "export_job": ("job_id", ("read_job", "cancel_job")),
    "retry_job": ("job_id", ("read_job", "cancel_job")),
    "cancel_job": ("job_id", ("retry_job", "delete_job")),
    "create_batch": (
        "batch_id",
        ("read_batch", "list_rows", "confirm_batch", "pause_batch", "resume_batch", "cancel_batch", "retry_batch"),
    ),
    "create_endpoint": (
        "endpoint_id",
        ("read_endpoint", "change_endpoint", "rotate_secret", "test_webhook", "delete_endpoint"),
    ),
    "test_webhook": ("delivery_id", ("read_delivery", "redeliver")),
    "redeliver": ("delivery_id", ("read_delivery",)),
}
_PAGED = ("list_jobs", "list_batches", "list_deliveries")


def links_of(operation: str) -> dict[str, Any]:
    """The links of an operation's success, by the name of what they lead to."""
    if operation in _PAGED:
        return {
            "next_page": {
                "operationId": operation,
                "parameters": {"after": "$response.body#/next_cursor"},
                "description": "The page after this one; none where `next_cursor` is null.",
            }
        }
    links: dict[str, Any] = {}
    if operation == "submit_job":
        links["list_deliveries"] = {"operationId": "list_deliveries", "parameters": {"job": _ID}}
        links["read_artifact"] = {"operationId": "read_artifact", "parameters": {"job_id": _ID, "name": "model"}}
    if operation == "create_upload":
        links["submit_job"] = {
            "operationId": "submit_job",
            "requestBody": {"image": {"upload_id": "$response.body#/upload_id"}},
            "description": "Once the picture was sent to `url`.",
        }
    parameter, targets = _LED_TO.get(operation, ("", ()))
    return links | {target: {"operationId": target, "parameters": {parameter: _ID}} for target in targets}
