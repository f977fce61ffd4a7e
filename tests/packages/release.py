"""What scripts/release has made, and what the documents say to do with it."""
import os
import pathlib
import shutil

ROOT = pathlib.Path(__file__).parents[2]
RELEASE = pathlib.Path(os.environ["RELEASE"])
(ARCHIVE,) = RELEASE.glob("corelay-*.tar.gz")
(PACKAGE,) = RELEASE.glob("corelay_*.deb")


def blocks(document, heading):
    """What stands in fences of `sh` below a heading, in order, up to the next heading."""
    found, below, fence, lines = [], False, None, []
    for line in (ROOT / document).read_text().splitlines():
        if fence is None and line.startswith("#"):
            below = line == heading
        elif fence is None and line.startswith("```"):
            fence, lines = line[3:], []
        elif line == "```":
            if below and fence == "sh":
                found.append("\n".join(lines))
            fence = None
        elif fence is not None:
            lines.append(line)
    if not found:
        raise AssertionError(f"{document} has no commands below {heading}")
    return found


def unpack(machine):
    """Puts the archive into an empty folder of the machine; the folder that is in it."""
    shutil.copy(ARCHIVE, machine.path("srv"))
    machine.run("tar", "--extract", "--gzip", "--file", ARCHIVE.name, folder="/srv")
    return f"/srv/{ARCHIVE.name.removesuffix('.tar.gz')}"
