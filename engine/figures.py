"""Numbers for people."""


def size(value: float | None, *, digits: int = 2) -> str:
    """Bytes for people; so many digits after the point from a gibibyte on."""
    if value is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.{digits}f} GiB"
