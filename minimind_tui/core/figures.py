"""Numbers for people: short, aligned, never longer than they need to be."""

import math

from engine import figures

_SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def number(value: float | None) -> str:
    """A number in at most seven characters; `–` where there is none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    magnitude = abs(value)
    if magnitude >= 10_000:
        limit, suffix = next(entry for entry in _SUFFIXES if magnitude >= entry[0])
        return f"{value / limit:.3g}{suffix}" if magnitude < 1e15 else f"{value:.1e}"
    if magnitude and magnitude < 1e-2:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if magnitude >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """Seconds as `42s`, `3m 05s`, `2h 07m`, `3d 04h`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    for size, small, names in ((86400, 3600, "dh"), (3600, 60, "hm"), (60, 1, "ms")):
        if whole >= size:
            return f"{whole // size}{names[0]} {whole % size // small:02d}{names[1]}"
    return f"{whole}s"


def size(count: float | None) -> str:
    """Bytes as `480 MiB`."""
    return figures.size(count if count is None or math.isfinite(count) else None, digits=1)


def share(value: float | None) -> str:
    """A share as whole percent."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.0%}"


def metric(value: float | None, unit: str) -> str:
    """A metric's value with its unit where the unit changes how the number is written."""
    if unit == "bytes":
        return size(value)
    return share(value) if unit.startswith("share") else number(value)
