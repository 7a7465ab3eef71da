"""The key schema of the object store, and ids."""

import hashlib
import re
import secrets
from datetime import date, datetime

from shared.domain.job import Lane

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_26 = "[0-9a-hjkmnp-tv-z]{26}"  # of Crockford's alphabet
_ID = re.compile(rf"(job|up|batch|key|we)_{_26}")
_DELIVERY = re.compile(rf"evt_{_26}_[0-9]{{1,9}}-(?:(?:url|put)_[0-9a-f]{{16}}|we_{_26})")
# Texts from outside that are safe as parts of keys, as patterns that the documents show: an id, and places in lists.
JOB_ID = rf"^job_{_26}$"
CURSOR = rf"^([0-9]{{13}}-job_{_26})?$"
BATCH_CURSOR = rf"^([0-9]{{13}}-batch_{_26})?$"
DELIVERY_CURSOR = rf"^([0-9]{{13}}-{_DELIVERY.pattern})?$"
_KEY = re.compile(r"(?:[A-Za-z0-9_=-][A-Za-z0-9._=-]*/)*[A-Za-z0-9_=-][A-Za-z0-9._=-]*")
_LAST_MS = 10**13 - 1  # the year 2286; what newest-first names count down from


def checked(key: str) -> str:
    """Return a key if every store takes it and no file system reads it as a path out of its folder.

    Raises:
        ValueError: it is no such key.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a key: {key!r}")
    return key


def checked_prefix(prefix: str) -> str:
    """Return a prefix if a valid key can start with it.

    Raises:
        ValueError: no valid key can.
    """
    checked(f"{prefix}x")
    return prefix


def new_id(kind: str, now: datetime) -> str:
    """Create an id that sorts by time and cannot be guessed: `<kind>_`, 10 characters of ms, 16 of 80 random bits."""
    return f"{kind}_" + _encoded((int(now.timestamp() * 1000) << 80) | secrets.randbits(80))


def _encoded(number: int) -> str:
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def id_time_ms(identifier: str) -> int:
    """Return the creation time of an id, ms since 1970."""
    value = 0
    for character in identifier.rpartition("_")[2][:10]:
        value = value * 32 + _CROCKFORD.index(character)
    return value


def is_id(text: str, kind: str) -> bool:
    """Return whether a text from outside is an id of this kind, and so is safe as part of a key."""
    return text.startswith(f"{kind}_") and _ID.fullmatch(text) is not None


def job_folder(job_id: str) -> str:
    """Return the prefix of all objects of a job."""
    return f"jobs/{job_id}/"


def job_record(job_id: str) -> str:
    """Return the key of the job's record, its source of truth."""
    return f"jobs/{job_id}/job.json"


def job_input(job_id: str, extension: str) -> str:
    """Return the key of the input image; `extension` without its dot."""
    return f"jobs/{job_id}/input.{extension}"


def job_of(key: str) -> str:
    """Return the job that a key belongs to."""
    return key.split("/")[1]


def artifact(job_id: str, attempt: int, filename: str) -> str:
    """Return the key of one attempt's result: `state.safetensors`, `model.glb`, `poster.webp`."""
    return f"jobs/{job_id}/{attempt}/{filename}"


PENDING = "pending/"


def pending_lane(lane: Lane) -> str:
    """Return the prefix of a lane's unfinished jobs. A worker without a queue empties the lanes in order."""
    return f"pending/{lane}/"


def pending_marker(lane: Lane, job_id: str, run_number: int, caller: str) -> str:
    """Return the key of an empty marker of an unfinished job, for the reconciler, in the order of submission.

    Every retry by the caller has a marker of its own, so that clearing an old one can never hide a new run.
    """
    return f"pending/{lane}/{job_id}.{run_number}.{caller}"


def read_pending_marker(marker: str) -> tuple[str, int, str]:
    """Return the job or the batch, the run number and the caller of a pending marker."""
    identifier, run_number, caller = marker.rpartition("/")[2].split(".")
    return identifier, int(run_number), caller


def caller_folder(caller: str) -> str:
    """Return the prefix of a caller's jobs."""
    return f"callers/{caller}/"


def caller_marker(caller: str, job_id: str) -> str:
    """Return the key of an empty marker that lists a caller's jobs, the newest first."""
    return f"callers/{caller}/{_LAST_MS - id_time_ms(job_id):013d}-{job_id}"


def job_of_marker(marker: str) -> str:
    """Return the job of a caller's or a blocked marker."""
    return marker.rpartition("-")[2]


RUNNING = "running/"


def running_of(caller: str) -> str:
    """Return the prefix of the numbered concurrency slots of a caller with a limit on running jobs."""
    return f"running/{caller}/"


BLOCKED = "blocked/"


def blocked_of(caller: str) -> str:
    """Return the prefix of a caller's jobs that wait for a slot."""
    return f"blocked/{caller}/"


def blocked(caller: str, lane: Lane, job_id: str) -> str:
    """Return the key of an empty marker of a blocked job; the most urgent lane first, then the oldest."""
    return f"blocked/{caller}/{list(Lane).index(lane)}-{job_id}"


UPLOADS = "uploads/"


def upload(caller: str, upload_id: str) -> str:
    """Return the key of an image that was uploaded before its jobs; only its caller may use it."""
    return f"uploads/{caller}/{upload_id}"


IDEMPOTENCY = "idempotency/"


def idempotency(caller: str, digest: str) -> str:
    """Return the key of the first use of an Idempotency-Key; `digest` is the SHA-256 of route and key."""
    return f"idempotency/{caller}/{digest}"


def caller_usage(caller: str) -> str:
    """Return the prefix of what a caller was charged, by day."""
    return f"usage/{caller}/"


def usage_folder(caller: str, day: date) -> str:
    """Return the prefix of what a caller was charged on one UTC day."""
    return f"usage/{caller}/{day:%Y-%m-%d}/"


def usage_day(key: str) -> date:
    """Return the day of a usage key."""
    return date.fromisoformat(key.split("/")[2])


def usage(caller: str, day: date, job_id: str, gpu_seconds: float, cost_usd: float) -> str:
    """Return the key of an empty object whose name holds a job's GPU milliseconds and millionths of a dollar."""
    return f"{usage_folder(caller, day)}{job_id}.{round(gpu_seconds * 1_000)}.{round(cost_usd * 1_000_000)}"


def read_usage(key: str) -> tuple[float, float]:
    """Return the GPU seconds and the US dollars of a usage key."""
    _, gpu_ms, micro_usd = key.rpartition("/")[2].split(".")
    return int(gpu_ms) / 1_000, int(micro_usd) / 1_000_000


API_KEYS = "keys/"


def api_key(key_id: str) -> str:
    """Return the key of an API key's record, which has a hash of the secret only."""
    return f"keys/{key_id}.json"


EXPIRING = "expiring/"


def expiring(due: datetime, job_id: str, run_number: int) -> str:
    """Return the key of an empty marker of an ended job that will be purged, in the order of time."""
    return f"expiring/{_ms(due):013d}-{job_id}.{run_number}"


def read_expiring(marker: str) -> tuple[int, str, int]:
    """Return the time (ms since 1970), the job or the batch, and the run number of an expiry marker."""
    due_ms, _, rest = marker.rpartition("/")[2].partition("-")
    identifier, _, run_number = rest.partition(".")
    return int(due_ms), identifier, int(run_number)


OUTBOX = "outbox/"


def outbox_entry(due: datetime, event_id: str, target: str, caller: str) -> str:
    """Return the key of a delivery that is due, in the order of time; the key identifies the delivery."""
    return f"outbox/{_ms(due):013d}-{event_id}.{target}.{caller}.json"


def event_id(job_id: str, run_number: int) -> str:
    """Return the id of the event at a job's end: the same at every delivery, by any process and after any crash."""
    return f"evt_{job_id.rpartition('_')[2]}_{run_number}"


PENDING_BATCHES = "pending-batches/"


def pending_batch(batch_id: str, run_number: int, caller: str) -> str:
    """Return the key of an empty marker of one run of an unfinished batch, the oldest first."""
    return f"pending-batches/{batch_id}.{run_number}.{caller}"


EXPIRING_BATCHES = "expiring-batches/"


def expiring_batch(due: datetime, batch_id: str, run_number: int) -> str:
    """Return the key of an empty marker of an ended batch that will be purged, in the order of time."""
    return f"expiring-batches/{_ms(due):013d}-{batch_id}.{run_number}"


def batches_of(caller: str) -> str:
    """Return the prefix of a caller's batches."""
    return f"callers-batches/{caller}/"


def batch_of_caller(caller: str, batch_id: str) -> str:
    """Return the key of an empty marker that lists a caller's batches, the newest first."""
    return f"callers-batches/{caller}/{_LAST_MS - id_time_ms(batch_id):013d}-{batch_id}"


def batch_folder(batch_id: str) -> str:
    """Return the prefix of all objects of a batch, except its jobs."""
    return f"batches/{batch_id}/"


def batch_record(batch_id: str) -> str:
    """Return the key of a batch's record."""
    return f"batches/{batch_id}/batch.json"


def batch_manifest(batch_id: str) -> str:
    """Return the key of the catalog as it was uploaded."""
    return f"batches/{batch_id}/manifest"


def batch_images(batch_id: str) -> str:
    """Return the key of the zip of images that was uploaded with the catalog."""
    return f"batches/{batch_id}/images.zip"


def batch_image(batch_id: str, row: int) -> str:
    """Return the key of a row's image that was uploaded separately."""
    return f"batches/{batch_id}/uploads/{row:06d}"


def batch_segment(batch_id: str, segment: int) -> str:
    """Return the key of some hundred planned rows of a batch, in their order."""
    return f"batches/{batch_id}/rows/{segment:05d}.jsonl"


def row_statuses(batch_id: str) -> str:
    """Return the prefix of the status markers of a batch's rows."""
    return f"batches/{batch_id}/statuses/"


def row_statuses_from(batch_id: str, row: int) -> str:
    """Return the position in a listing just before the status markers of a row."""
    return f"{row_statuses(batch_id)}{row:06d}"


def row_status(batch_id: str, row: int, run_number: int, what: str) -> str:
    """Return the key of an empty marker whose name holds a row's status in one run."""
    return f"{row_statuses(batch_id)}{row:06d}.{run_number}.{what}"


def read_row_status(key: str) -> tuple[int, int, list[str]]:
    """Return the row, the run number and the words of a status marker."""
    row, run_number, *words = key.rpartition("/")[2].split(".")
    return int(row), int(run_number), words


def cached_result(caller: str, digest: str) -> str:
    """Return the key of the job that made a row's result; `digest` is the SHA-256 of all that the result depends on."""
    return f"cached-results/{caller}/{digest}"


def derived_job_id(at: datetime, number: int, secret: str) -> str:
    """Derive the id of a batch's job: always the same, and as hard to guess as the secret.

    Ids sort by `number`, which counts as ms after `at`.
    """
    digest = hashlib.sha256(f"{secret}.{number}".encode()).digest()
    value = ((int(at.timestamp() * 1000) + number) << 80) | int.from_bytes(digest[:10], "big")
    return "job_" + _encoded(value)


def endpoint_folder(caller: str) -> str:
    """Return the prefix of a caller's webhook endpoints, the oldest first.

    One is `default`, which signs for the URLs that jobs name.
    """
    return f"webhook-endpoints/{caller}/"


def endpoint(caller: str, endpoint_id: str) -> str:
    """Return the key of a webhook endpoint with its secrets."""
    return f"webhook-endpoints/{caller}/{endpoint_id}.json"


WEBHOOK_DELIVERIES = "webhook-deliveries/"


def delivery_folder(caller: str) -> str:
    """Return the prefix of a caller's webhook deliveries, the newest job first."""
    return f"webhook-deliveries/{caller}/"


def delivery(caller: str, delivery_id: str) -> str:
    """Return the key of the delivery of an event to a receiver."""
    made_ms = id_time_ms(delivery_id.partition("-")[0].rpartition("_")[0])
    return f"webhook-deliveries/{caller}/{_LAST_MS - made_ms:013d}-{delivery_id}.json"


def deliveries_of(caller: str, job_id: str) -> str:
    """Return the prefix of a caller's deliveries of one job."""
    return f"webhook-deliveries/{caller}/{_LAST_MS - id_time_ms(job_id):013d}-evt_{job_id.rpartition('_')[2]}_"


def is_delivery_id(text: str) -> bool:
    """Return whether a text from outside is the id of a delivery, and so is safe as part of a key."""
    return _DELIVERY.fullmatch(text) is not None


def whole_ms(moment: datetime) -> datetime:
    """Round a time down to whole milliseconds, as outbox keys hold it."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
