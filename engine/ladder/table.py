"""The results of one seed or of several: figures before and after, claims, and whether they are reached."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.ladder.results import Results
from engine.ladder.rungs import Line, Rung

_HEAD = ("rung", "seconds: training + measuring", "figure", "before", "after", "claim", "reached?")


def tabulate(ladder: Mapping[str, Rung], seeds: Sequence[Results]) -> dict[str, Any]:
    """All lines of the rungs that some seed has climbed, for programs.

    Returns:
        `seeds`; `seconds`: by rung, [training, measuring] of each seed; `rows`: rung, figure, file, key, is_share,
        before_of (the rung that `before` is of, where it is not the one started from), before, after, claim, reached;
        `failures`: rung, seed, error. What there is one of for each seed is None where it is not known.
    """
    done = {name: [each.result(name) if each.is_done(name) else None for each in seeds] for name in ladder}
    known = [(name, each.seed, result) for name in ladder for each in seeds if (result := each.get(name))]
    return {
        "seeds": [each.seed for each in seeds],
        "seconds": {
            name: [result and [result.train_seconds, result.evaluation_seconds] for result in results]
            for name, results in done.items() if any(results)
        },
        "rows": [_row(rung, line, seeds) for rung in ladder.values() if any(done[rung.name]) for line in rung.lines],
        "failures": [
            {"rung": name, "seed": seed, "error": result.error} for name, seed, result in known if result.error
        ],
    }  # fmt: skip


def _row(rung: Rung, line: Line, seeds: Sequence[Results]) -> dict[str, Any]:
    figure, claim, other = line.figure, line.claim, rung.before(line)
    before = [each.value(other, figure) for each in seeds]
    after = [each.value(rung.name, figure) for each in seeds]
    reached = [
        None if claim is None or new is None or (claim.compares and old is None) else bool(claim.holds(old, new))
        for old, new in zip(before, after, strict=True)
    ]
    return {
        "rung": rung.name, "figure": figure.title, "file": figure.file, "key": figure.key, "is_share": figure.is_share,
        "before_of": other if other != rung.start else "", "before": before, "after": after,
        "claim": claim.text if claim else "", "reached": reached,
    }  # fmt: skip


def markdown(found: Mapping[str, Any]) -> str:
    """What `tabulate` gives as a Markdown table: of several seeds the least and the greatest values."""
    lines, shown = [_HEAD, ("---",) * len(_HEAD)], ""
    for row in found["rows"]:
        name, shown, previous = row["rung"], row["rung"], shown
        before, after = (_span(row[side], row["is_share"]) for side in ("before", "after"))
        lines.append((
            *((name, _time(found["seconds"][name])) if name != previous else ("", "")), row["figure"],
            f"{row['before_of']}: {before}" if row["before_of"] else before, after, row["claim"], _verdict(row),
        ))  # fmt: skip
    lines += [(each["rung"], "", f"seed {each['seed']} failed: {each['error'].splitlines()[0]}", *[""] * 4)
              for each in found["failures"]]  # fmt: skip
    text = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    for place, seed in enumerate(found["seeds"]):
        minutes = sum(sum(times[place] or ()) for times in found["seconds"].values()) / 60
        text.append(f"{'' if place else chr(10)}Seed {seed}: {minutes:.1f} minutes.")
    return "\n".join(text)


def _span(values: Sequence[Any], is_share: bool) -> str:
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], bool):
        return ("yes" if all(known) else "no") if known else "–"
    return _ends([100 * value for value in known], ".1f") + " %" if is_share else _ends(known, ".4g")


def _ends(values: Sequence[float], form: str) -> str:
    """The least and the greatest, one where they look alike."""
    return "–".join(dict.fromkeys(f"{value:{form}}" for value in (min(values), max(values))))


def _time(times: Sequence[Sequence[float] | None]) -> str:
    return " + ".join(_ends(part, ".0f") for part in zip(*filter(None, times), strict=True))


def _verdict(row: Mapping[str, Any]) -> str:
    """yes or no of one seed, how many of several."""
    known = [reached for reached in row["reached"] if reached is not None]
    if not known:
        return "–" if row["claim"] else ""
    return ("yes" if known[0] else "no") if len(row["reached"]) == 1 else f"{sum(known)} of {len(known)}"
