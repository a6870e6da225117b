"""Temperatures and frequencies of a machine, as the kernel has them, and whether it was throttled.

They are read by a shell, there or here, without a program of ours.
"""

from __future__ import annotations

import re
from typing import Any

from py_runner.files.process import Child

__all__ = ["READ", "between", "parse", "read"]

# A function of the shell: a line a file, "PATH TEXT". PADDLE_EDGE_SYSFS is where /sys is.
READ = r"""
sensors() {
  for file in "${PADDLE_EDGE_SYSFS:-/sys}"/class/thermal/thermal_zone*/type \
              "${PADDLE_EDGE_SYSFS:-/sys}"/class/thermal/thermal_zone*/temp \
              "${PADDLE_EDGE_SYSFS:-/sys}"/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq \
              "${PADDLE_EDGE_SYSFS:-/sys}"/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_max_freq \
              "${PADDLE_EDGE_SYSFS:-/sys}"/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor \
              "${PADDLE_EDGE_SYSFS:-/sys}"/devices/platform/soc/soc:firmware/get_throttled
  do
    [ -r "$file" ] && text=$(cat "$file" 2>/dev/null) && printf '%s\t%s\n' "$file" "$text"
  done
  # Of Android, whose shell may not read most of them.
  dumpsys thermalservice 2>/dev/null | while read -r text; do printf 'android\t%s\n' "$text"; done
  :
}
"""
# Bits of the Raspberry Pi's firmware, which stay set 16 places higher once they have been.
_FIRMWARE = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
# Android's words for its thermal status, from 1 on; and what it measures that is no temperature.
_STATUS = ("light", "moderate", "severe", "critical", "emergency", "shutdown")
_BATTERY_LIMITS = ("6", "7", "8")  # BCL: voltage, current, percentage
_TEMPERATURE = re.compile(
    r"^android\tTemperature\{mValue=(-?[0-9.]+), mType=(-?[0-9]+), mName=([^,]*),", re.MULTILINE
)
_FELL = 0.9  # of a frequency that a fixed governor would have kept


def parse(text: str) -> dict[str, Any]:
    """What READ printed: celsius by sensor; cpu_mhz, cpu_max_mhz and governor by core; and of a
    Raspberry Pi the bits of its firmware, of Android its thermal status, 0 to 6, else None."""
    files = dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    found: dict[str, Any] = {
        "celsius": {}, "cpu_mhz": {}, "cpu_max_mhz": {}, "governor": {}, "firmware": None,
        "android": None,
    }  # fmt: skip
    fields = {"scaling_cur_freq": "cpu_mhz", "scaling_max_freq": "cpu_max_mhz"}
    for path, value in files.items():
        place, _, name = path.rpartition("/")
        core = re.search(r"/(cpu[0-9]+)/", path)
        if core and name in fields and value.isdecimal():
            found[fields[name]][core[1]] = int(value) / 1e3
        elif core and name == "scaling_governor":
            found["governor"][core[1]] = value
        elif name == "temp" and re.fullmatch("-?[0-9]+", value):
            zone = place.rpartition("/")[2]
            label = files.get(f"{place}/type", zone)
            found["celsius"][zone if label in found["celsius"] else label] = int(value) / 1e3
        elif name == "get_throttled" and re.fullmatch("[0-9a-fA-F]+", value):
            found["firmware"] = int(value, 16)
    for value, kind, name in _TEMPERATURE.findall(text):  # those in its cache, then as measured
        if kind not in _BATTERY_LIMITS:
            found["celsius"][name] = float(value)
    status = re.search(r"^android\tThermal Status: ([0-6])$", text, re.MULTILINE)
    found["android"] = int(status[1]) if status else None
    return found


def read() -> dict[str, Any] | None:
    """What this machine's sensors say, as `parse` has it; None where it has none."""
    with Child(["/bin/sh", "-c", f"{READ}\nsensors"], output="lines") as child:
        found = parse(b"".join(child.lines()).decode("utf-8", "replace"))
    return found if any(found.values()) else None


def between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Both, and "throttled": what tells that the machine was slowed down between them, in words."""
    words = []
    for core, mhz in after["cpu_max_mhz"].items():
        if mhz < before["cpu_max_mhz"].get(core, mhz):
            was = before["cpu_max_mhz"][core]
            words.append(f"{core} may run at {mhz:.0f} MHz, {was:.0f} MHz before")
    for core, mhz in after["cpu_mhz"].items():
        was = before["cpu_mhz"].get(core, mhz)
        fixed = after["governor"].get(core) == before["governor"].get(core) == "performance"
        if fixed and mhz < _FELL * was:
            words.append(f"{core} runs at {mhz:.0f} MHz, {was:.0f} MHz before")
    bits, earlier = after["firmware"] or 0, before["firmware"] or 0
    now = (bits | (bits & ~earlier) >> 16) & 0xF
    words += [f"firmware: {word}" for place, word in enumerate(_FIRMWARE) if now >> place & 1]
    if after["android"]:
        words.append(f"Android: thermal status {_STATUS[after['android'] - 1]}")
    return {"before": before, "after": after, "throttled": words}
