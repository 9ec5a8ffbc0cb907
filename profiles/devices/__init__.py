"""Storage devices to imitate, one JSON file each in this folder, with the source of every figure."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.errors import EngineError
from engine.preload.device import NATIVE, Device


def load_devices(folder: Path = Path(__file__).parent) -> dict[str, Device]:
    """All devices by name, from the fastest to the slowest after ``native``.

    Raises:
        EngineError: a file that is no device.
    """
    devices = []
    for file in sorted(folder.glob("*.json")):
        try:
            devices.append(msgspec.json.decode(file.read_bytes(), type=Device))
        except msgspec.MsgspecError as error:
            raise EngineError(f"{file} is not a device profile ({error}); mend or remove it") from None
    devices.sort(key=lambda device: -device.bandwidth)
    return {NATIVE.name: NATIVE} | {device.name: device for device in devices}
