"""Packs: the same bytes for the same folder, nothing outside of the target, and little memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from hosts.simulator import packs, transfer
from hosts.simulator.wire import RefusedError

ROOT = Path(__file__).resolve().parents[3]
MIB = 1024 * 1024

# A push and a pull as a host does them, in a process of its own, which tells its largest size.
THROUGH = r"""
import json, re, sys
from pathlib import Path
from hosts.simulator import packs, transfer
folder, size = Path(sys.argv[1]), int(sys.argv[2])
disk = folder / "golden.pvm/harddisk.hds"
disk.parent.mkdir()
with disk.open("wb") as file:
    file.truncate(size)

def largest():  # of this process alone: what getrusage tells begins with its parent's
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024

before = largest()
packed = packs.pack(disk.parent, folder / "made", compress=False)
stored = transfer.Place(path=folder / "storage/golden.pdpack")
transfer.send(folder / "made", stored, progress=lambda done: None)
(folder / "made").unlink()
transfer.fetch(stored, folder / "part", room=None, progress=lambda done: None)
stored.path.unlink()
assert packs.md5_of(folder / "part") == packed.md5
unpacked = packs.unpack(folder / "part", folder / "there")
print(json.dumps([packed.unpacked, unpacked, before, largest()]))
"""


@pytest.mark.parametrize("size_mib", [256, pytest.param(2048, marks=pytest.mark.soak, id="2-GiB")])
def test_a_large_pack_takes_little_memory(tmp_path: Path, size_mib: int) -> None:
    found = subprocess.run(
        [sys.executable, "-c", THROUGH, str(tmp_path), str(size_mib * MIB)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    packed, unpacked, before, peak = json.loads(found.stdout)
    assert packed == unpacked == size_mib * MIB
    assert peak < 150
    assert peak - before < 30


def test_a_pack_is_the_same_each_time_and_becomes_the_folder_again(tmp_path: Path) -> None:
    bundle = tmp_path / "golden.pvm"
    packs.make_bundle(bundle, {"name": "golden"}, 200_000)
    one, two = tmp_path / "one", tmp_path / "two"
    for compress in (False, True):
        first = packs.pack(bundle, one, compress=compress)
        assert first == packs.pack(bundle, two, compress=compress)
        assert one.read_bytes() == two.read_bytes()
        assert (first.size, first.md5) == (one.stat().st_size, packs.md5_of(one))
        assert packs.unpack(one, tmp_path / "again.macvm") == first.unpacked
        disk = "harddisk.hdd/harddisk.hdd.0.hds"
        assert (tmp_path / "again.macvm" / disk).read_bytes() == (bundle / disk).read_bytes()
    with pytest.raises(packs.NoRoomError):
        packs.pack(bundle, one, compress=False, room=1000)
    assert not one.exists()
    with pytest.raises(packs.NoRoomError):
        packs.unpack(two, tmp_path / "none", room=1000)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["golden.pvm/../../escaped", "golden.pvm//etc/escaped"])
def test_a_pack_writes_nothing_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    wicked = tmp_path / "wicked.pdpack"
    with tarfile.open(wicked, "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    target = tmp_path / "deep/target"
    with suppress(packs.BadPackError):
        packs.unpack(wicked, target)
    assert [path for path in tmp_path.rglob("escaped") if target not in path.parents] == []
    wicked.write_bytes(b"no tar at all")
    with pytest.raises(packs.BadPackError):
        packs.unpack(wicked, target)


def test_a_part_is_gone_on_with(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 20_000)
    there, back = transfer.Place(path=tmp_path / "storage/pack"), tmp_path / "back"
    quiet = {"progress": lambda done: None}
    for moving in (
        lambda cut: transfer.send(source, there, cut=cut, **quiet),
        lambda cut: transfer.fetch(there, back, room=None, cut=cut, **quiet),
    ):
        with pytest.raises(RefusedError, match="lost"):
            moving(3_000_000)
        assert moving(None)
    assert back.read_bytes() == source.read_bytes()
    with pytest.raises(RefusedError, match="cannot read"):
        transfer.fetch(transfer.Place(path=tmp_path / "none"), tmp_path / "x", room=None, **quiet)
    with pytest.raises(RefusedError, match="no client"):
        transfer.place("minio", {"bucket": "b"}, "a", "a.pdpack", "")
