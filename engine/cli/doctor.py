"""engine doctor."""

from collections.abc import Iterator
from typing import Any

import click

from engine.cli.show import number, print_json, print_table, print_text, say
from engine.figures import size


@click.command()
@click.option("--full", is_flag=True, help="Try torch.compile too, which takes longer than all the rest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def doctor(full: bool, as_json: bool) -> None:
    """Show what this machine has (device, memory, threads, precision, compilation, disk), measured, with advice."""
    if full:
        say("trying torch.compile …")
    from engine.session.doctor import examine

    found = examine(full=full)
    if as_json:
        print_json(found)
        return
    print_table(("what", "found here"), _rows(found))
    click.echo("\nadvice")
    for sentence in found["advice"]:
        print_text(f"  - {sentence}")
    click.echo(f"\nmeasured in {number(found['seconds'], 2)} s")


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "software", f"python {found['python']}, torch {found['torch']}, {found['platform']}"
    for device in found["device"]["all"]:
        taken = ", what runs take" if device["name"] == found["device"]["name"] else ""
        yield device["name"], f"{_device(device)}{taken}"
    yield from _memory(found["memory"], found["device"]["profiles"])
    yield "threads", _threads(found["threads"])
    for variable, value in found["threads"]["environment"].items():
        yield "", f"{variable}={value}"
    for dtype, measured in found["precision"]["dtypes"].items():
        yield dtype, _precision(dtype, measured, found["precision"])
    yield "compile", _compile(found["compile"])
    disk = found["disk"]
    yield "disk", f"{size(disk['free_bytes'])} of {size(disk['total_bytes'])} free for {disk['home']}"


def _device(device: dict[str, Any]) -> str:
    if device["problem"]:
        return f"cannot be used: {device['problem']}"
    if device["memory_bytes"] is None:
        return str(device["description"])
    return f"{device['description']}, {size(device['free_bytes'])} of {size(device['memory_bytes'])} free"


def _memory(memory: dict[str, Any], profiles: str) -> Iterator[tuple[str, str]]:
    limit = f"this process may hold {size(memory['limit_bytes'])} ({memory['limited_by']})"
    yield "memory", f"{size(memory['available_bytes'])} of {size(memory['total_bytes'])} available; {limit}"
    low, high = (size(memory["pretrain"][f"{end}_bytes"]) for end in ("low", "high"))
    yield "", f"{profiles}/pretrain takes {low} to {high}"


def _threads(threads: dict[str, Any]) -> str:
    usable = threads["cores"]
    text = f"{usable} of {number(threads['machine_cores'])} cores may be used, load {threads['load']:.1f}"
    if usable == 1:
        return text
    one, every = (threads[f"{which}_flops_per_second"] for which in ("one", "all"))
    slower, faster = sorted(((one, "one thread"), (every, f"{usable} threads")))
    return f"{text}; {faster[1]}: {faster[0] / slower[0]:.2f} times as fast as {slower[1]}"


def _precision(dtype: str, measured: dict[str, Any], precision: dict[str, Any]) -> str:
    if not measured["works"]:
        return f"does not work: {measured['problem']}"
    parts = [f"works, {number(measured['flops_per_second'] / 1e9, 3)} GFLOP/s"]
    if dtype != "float32" and measured["relative_speed"] is not None:
        parts.append(f"{number(measured['relative_speed'], 2)} times as fast as float32")
    if dtype == "bfloat16":
        parts.append("the hardware has it" if precision["hardware_bfloat16"] else "in software")
    if dtype == precision["auto"]:
        parts.append("what dtype=auto takes")
    return ", ".join(parts)


def _compile(compilation: dict[str, Any]) -> str:
    if not compilation["tried"]:
        return "not tried; `engine doctor --full` tries it"
    works = "works" if compilation["works"] else "does not work"
    return f"{works}, tried in {number(compilation['seconds'], 2)} s"
