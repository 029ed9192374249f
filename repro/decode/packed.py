"""Zip files of tensors, as torch writes them, held against their checksums, at which its own reader
does not look: a flipped bit would be another weight.
"""

from __future__ import annotations

from zipfile import ZipFile

FOLDER = 0x10  # of an entry's external attributes, as MS-DOS had it


def damaged_entry(packed: ZipFile) -> str | None:
    """The name, as a line can show it, of the first entry that is not what was written, if any.

    One that is marked as a folder passes by its checksum, and torch's reader then leaves whatever
    was in memory in place of its content; torch marks none so.

    Raises:
        zipfile.BadZipFile, OSError and others: it is no whole zip file.
    """
    folders = (e.filename for e in packed.infolist() if e.is_dir() or e.external_attr & FOLDER)
    damaged = next(folders, None) or packed.testzip()
    return repr(damaged)[1:-1] if damaged else None
