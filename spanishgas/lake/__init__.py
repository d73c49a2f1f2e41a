"""The lake: published tables and raw extracts, in a local folder or under an s3:// prefix.

tables.py    what there is, and what a manifest and a snapshot say
lake.py      publishing, finding, pruning: the same wherever the files lie
store.py     the few operations that it asks of a place, and the local folder that has them; s3.py has them on S3
digests.py   what makes two tables, parts or files equal
"""

from spanishgas.contracts.tables import LAYERS
from spanishgas.lake.digests import content, file_digest, files_of, is_hidden, rows_digest
from spanishgas.lake.lake import Lake, open_store
from spanishgas.lake.s3 import S3Store
from spanishgas.lake.store import SCHEME, ListedFile, LocalStore, Place, Replaced, local_path, location
from spanishgas.lake.tables import Erasure, Snapshot, Store
from spanishgas.raw_files import RAW_FILES

__all__ = [
    "LAYERS",
    "RAW_FILES",
    "SCHEME",
    "Erasure",
    "Lake",
    "ListedFile",
    "LocalStore",
    "Place",
    "Replaced",
    "S3Store",
    "Snapshot",
    "Store",
    "content",
    "file_digest",
    "files_of",
    "is_hidden",
    "local_path",
    "location",
    "open_store",
    "rows_digest",
]
