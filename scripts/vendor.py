"""Vendor the front-end files of `static/vendor/` and the icon sprite `static/icons.svg`.

Run `python scripts/vendor.py` (needs npm) after changing a version or an icon below and commit
what it writes. Nothing here runs when the product is built or started: there is no build step and
no CDN. `static/vendor/hashes.txt` holds the SHA-256 of every vendored file in the format of
`sha256sum`, so that `cd static && sha256sum -c vendor/hashes.txt` and a test can verify them.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

STATIC = Path(__file__).resolve().parent.parent / "static"
VENDOR = STATIC / "vendor"
SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True, eq=False)
class Package:
    """One package of the npm registry and the files taken from it (path inside → vendored name)."""

    name: str
    version: str
    licence: str
    files: dict[str, str]


HTMX = Package(
    "htmx.org",
    "4.0.1",
    "0BSD",
    {
        "dist/htmx.min.js": "htmx.min.js",
        "dist/ext/hx-sse.min.js": "hx-sse.min.js",
        "LICENSE": "htmx.LICENSE.txt",
    },
)
# The package ships no licence file; its banner names MIT and the holders, see `tabler_licence`.
TABLER = Package("@tabler/core", "1.6.1", "MIT", {"dist/css/tabler.min.css": "tabler.min.css"})
ICONS = Package("@tabler/icons", "3.51.0", "MIT", {"LICENSE": "tabler-icons.LICENSE.txt"})

OUTLINE_ICONS = """
    activity alert-triangle ban bell check circle-check circle-x clock copy cpu cube dashboard
    database device-desktop download external-link eye history hourglass key list loader lock
    logout menu-2 moon pencil player-pause player-play player-stop plug plus refresh search server
    settings shield stack-2 sun tag template terminal trash user users x
"""


def unpack(package: Package, folder: Path) -> Path:
    """Fetch `package` with npm, which checks its integrity, and return the unpacked folder."""
    target = folder / package.name.replace("/", "_")
    target.mkdir()
    subprocess.run(
        ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
        cwd=target,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (archive,) = target.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target / "package"


def without_source_map(text: str) -> str:
    """Drop the pointer to a source map that is not vendored: hashed static files would miss it."""
    return re.sub(r"\s*(/\*|//)# sourceMappingURL=\S+?(\s*\*/)?\s*$", "\n", text)


def check_self_contained(name: str, text: str) -> None:
    """Refuse a style sheet that would load anything from elsewhere (our CSP forbids it)."""
    outside = [u for u in re.findall(r"url\(\s*['\"]?([^)'\"]{1,60})", text) if u[:5] != "data:"]
    if outside or "@import" in text:
        raise SystemExit(f"{name} loads other files ({outside or '@import'}); vendor these too.")


def tabler_licence(css: str, mit: str) -> str:
    """The MIT text with the copyright lines of Tabler's own banner."""
    holders = re.findall(r"\* (Copyright .+)", css[:1000])
    terms = mit[mit.index("Permission is hereby granted") :]
    return "MIT License\n\n" + "\n".join(holders) + "\n\n" + terms


def sprite(icons: Path) -> str:
    """One SVG with a `<symbol>` per icon, used as `<use href="icons.svg#server">`."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.Element(f"{{{SVG}}}svg")
    for name in sorted(OUTLINE_ICONS.split()):
        drawing = ElementTree.parse(icons / f"{name}.svg").getroot()
        symbol = ElementTree.SubElement(
            root,
            f"{{{SVG}}}symbol",
            {
                "id": name,
                "viewBox": "0 0 24 24",
                "fill": "none",
                "stroke": "currentColor",
                "stroke-width": "2",
                "stroke-linecap": "round",
                "stroke-linejoin": "round",
            },
        )
        for shape in drawing:
            if shape.get("d") != "M0 0h24v24H0z":  # Tabler's invisible bounding box
                shape.tail = None
                symbol.append(shape)
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def main() -> None:
    """Write the vendored files, the sprite, their hashes and the list of what was vendored."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def write(path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        written.append(path)

    with tempfile.TemporaryDirectory() as temporary:
        folders = {p: unpack(p, Path(temporary)) for p in (HTMX, TABLER, ICONS)}
        for package, folder in folders.items():
            for source, name in package.files.items():
                text = without_source_map((folder / source).read_text(encoding="utf-8"))
                if name.endswith(".css"):
                    check_self_contained(name, text)
                write(VENDOR / name, text)
        css = (VENDOR / "tabler.min.css").read_text(encoding="utf-8")
        mit = (VENDOR / "tabler-icons.LICENSE.txt").read_text(encoding="utf-8")
        write(VENDOR / "tabler.LICENSE.txt", tabler_licence(css, mit))
        write(STATIC / "icons.svg", sprite(folders[ICONS] / "icons" / "outline"))

    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(STATIC).as_posix()}\n"
        for path in sorted(written)
    ]
    (VENDOR / "hashes.txt").write_text("".join(lines), encoding="utf-8")
    rows = [
        f"| {p.name} | {p.version} | {p.licence} | {', '.join(sorted(p.files.values()))} |\n"
        for p in (HTMX, TABLER, ICONS)
    ]
    (VENDOR / "VENDORED.md").write_text(
        "# Vendored front-end files\n\n"
        "Written by `scripts/vendor.py` from the npm registry; do not edit. Source-map pointers are"
        "\nremoved, nothing else is changed. SHA-256 of every file: `hashes.txt`.\n\n"
        "| package | version | licence | files |\n|---|---|---|---|\n"
        + "".join(rows)
        + "\n`../icons.svg` is a sprite of outline icons of @tabler/icons. The licence of "
        "@tabler/core is\n`tabler.LICENSE.txt`.\n",
        encoding="utf-8",
    )
    sys.stdout.write(f"{len(written)} files in {STATIC}\n")


if __name__ == "__main__":
    main()
