"""What is going to happen in a simulated world: made from a seed, carried out by ``world``.

A plan is data: it can be printed, kept, and made smaller. Each seed takes only some kinds of steps,
in other proportions (swarm testing), because most faults need several of the same kind and few of
the others.

Pure: a seed in, a plan out.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec


class Step(msgspec.Struct, frozen=True, order=True):
    """At ``at_s`` seconds, ``kind`` happens, with ``arguments``."""

    at_s: float
    kind: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.at_s:8.3f} {self.kind} {told}"


class Plan(msgspec.Struct, frozen=True):
    """``settings`` are fields of ``OutboxSettings`` (``outbox``) and so on that differ from those
    of ``world``. Faults end at ``end_s``; then the world must come to rest. ``is_patient``: it is
    looked at for minutes after that, whether it stays there."""

    seed: str
    settings: dict[str, dict[str, Any]]
    steps: tuple[Step, ...]
    end_s: float
    is_patient: bool = False


#: The kinds of steps with their weights. Publishing and asking happen in every plan.
_WEIGHTS = {
    "publish": 14,
    "ask": 8,
    "cut": 3,
    "reset": 2,
    "finish": 1,
    "hold": 2,
    "weather": 2,
    "habits": 3,
    "close": 3,
    "platform_crash": 2,
    "disk": 5,
    "crash": 3,
    "stop": 2,
    "reload": 2,
    "clock": 1,
    "purge": 1,
    "retry_dead": 1,
    "strike": 2,
}
#: One chain of events that are published when others are accepted has no more than so many.
_MOST_EVENTS = 1_500
#: The share of plans whose world is looked at for minutes after it has come to rest.
_PATIENT = 0.1
_ALWAYS = ("publish", "ask")
_CLOSE_CODES = (1000, 1001, 1006, 1011, 1012, 1013, 4001)


def make_plan(seed: str) -> Plan:
    """The plan of ``seed``."""
    random = Random(f"{seed}/plan")
    kinds = [kind for kind in _WEIGHTS if kind in _ALWAYS or random.random() < 0.4]
    taste = Taste(
        poison=random.choice((0.02, 0.02, 0.2)),
        huge=random.choice((0.0, 0.0, 0.0, 0.3)),
        scale=random.choice((1, 1, 1, 4)),
        hangs=random.choice((1, 1, 6)),
        is_bulky=random.random() < 0.15,
        damage=random.choice((0.0, 0.0, 0.0, 0.6)),
    )
    if not taste.damage and "strike" in kinds:
        kinds.remove("strike")
    if taste.hangs > 1:
        kinds += [kind for kind in ("disk", "reset", "purge") if kind not in kinds]
    weights = [_WEIGHTS[kind] * random.choice((1, 1, 3)) for kind in kinds]
    if taste.huge and "crash" not in kinds:
        kinds, weights = [*kinds, "crash"], [*weights, 1]
    length_s = random.choice((3.0, 10.0, 30.0, 60.0))
    steps: list[Step] = []
    asked: list[dict[str, Any]] = []
    for _ in range(random.randint(6, 40)):
        at_s = round(random.uniform(0.0, length_s), 6)
        kind = random.choices(kinds, weights)[0]
        steps.append(Step(at_s, kind, _arguments(kind, random, asked, taste)))
        if "crash" in kinds and random.random() < (0.5 if taste.huge else 0.1):
            # Right behind another one, where most is under way.
            soon_s = round(at_s + random.choice((0.005, 0.05, 0.5)) * random.random(), 6)
            steps.append(Step(soon_s, "crash", _arguments("crash", random, asked, taste)))
    if taste.hangs > 1:
        steps += _refused_while_it_hangs(random, length_s)
    if taste.damage and random.random() < 0.5:
        steps += _killed_while_it_recovers(random, length_s)
    steps.sort(key=lambda step: step.at_s)
    return Plan(
        seed, _settings(random, taste), tuple(steps), length_s + 5.0, random.random() < _PATIENT
    )


class Taste(msgspec.Struct, frozen=True):
    """What a plan has more of than others: events that the platform refuses, answers that are large
    (``scale``: how large) for the outbox, a disk that hangs, thousands of events, files that are
    damaged. A plan that does something to files takes several times as long as others."""

    poison: float
    huge: float
    scale: int
    hangs: int
    is_bulky: bool
    damage: float


def _settings(random: Random, taste: Taste) -> dict[str, dict[str, Any]]:
    outbox: dict[str, Any] = {
        "linger_s": random.choice((20.0, 60.0)),
        "commit_window_s": random.choice((0.0, 0.02)),
        "window_messages": random.choice((4, 16, 256)),
    }
    if random.random() < 0.15 and not taste.huge:
        outbox["max_bytes"] = random.choice((262_144, 1_048_576))
    elif taste.huge:
        outbox["max_bytes"] = 1_048_576 * taste.scale
    if "max_bytes" in outbox:
        outbox["policy"] = random.choice(("dropOldest", "refuse"))
    return {
        "outbox": outbox,
        "connector": {"reconnect_spread_s": random.choice((0.0, 0.0, 5.0))},
        "disk": {
            "commit_s": random.choice(((0.0001, 0.0005), (0.004, 0.006), (0.05, 0.5))),
            "has_files": random.random() < 0.07,
            "head_rows": random.choice((1, 3, 1024)),
        },
    }


def _arguments(
    kind: str, random: Random, asked: list[dict[str, Any]], taste: Taste
) -> dict[str, Any]:
    if kind == "publish":
        return _publishing(random, taste)
    if kind == "ask":
        return _asking(random, asked, taste)
    if kind == "cut":
        return {"direction": random.choice(("up", "down")), "after": _bytes(random)}
    if kind == "hold":
        return {
            "direction": random.choice(("up", "down", "both")),
            "for_s": round(random.uniform(0.1, 40.0), 3),
        }
    if kind == "weather":
        return {
            "answer": random.choice(("accept", "refuse", "silence")),
            "latency_s": random.choice(((0.0005, 0.005), (0.05, 0.5), (0.0, 2.0))),
            "piece_bytes": random.choice((1, 7, 100, 65536, 1 << 20)),
            "for_s": round(random.uniform(0.5, 15.0), 3),
        }
    if kind == "habits":
        return {
            "pong": random.choice(("prompt", "late", "lost", "twice", "foreign")),
            "pong_delay_s": round(random.choice((0.01, 0.3, 3.0, 20.0)) * random.random(), 4),
            "commit_lag_s": random.choice((0.0, 0.1, 2.0)),
            "drops_on_cut": random.random() < 0.5,
            "http_status": random.choice((None, None, None, 401, 503)),
            "for_s": round(random.uniform(0.5, 20.0), 3),
        }
    if kind == "close":
        return {"code": random.choice(_CLOSE_CODES)}
    if kind == "disk":
        state = random.choice(("works", "works", "full", "broken", *["hangs"] * taste.hangs))
        lengths_s = (10.0, 30.0) if state == "hangs" and taste.hangs > 1 else (0.1, 1.0, 10.0)
        return {
            "state": state,
            "commit_s": random.choice(((0.0, 0.0), (0.005, 0.005), (0.05, 0.05), (0.2, 2.0))),
            "for_s": round(random.choice(lengths_s) * random.random(), 4),
        }
    if kind == "crash":
        is_damaged = random.random() < taste.damage
        damage = random.choice(("empty", "no log", "scribble")) if is_damaged else None
        return {
            "fuse": random.choice((0, random.randint(1, 20), random.randint(1, 400))),
            "is_power_loss": random.random() < 0.4,
            "down_s": round(random.choice((0.0, 0.5, 6.0)) * random.random(), 4),
            "damage": damage,
            "again": random.choice((None, *[random.randint(1, 60)] * (2 if damage else 1), None)),
        }
    if kind == "strike":
        return {"action": random.choice(("delete", "delete all", "move", "replace"))}
    if kind == "stop":
        return {"down_s": round(random.choice((0.0, 0.5, 6.0)) * random.random(), 4)}
    if kind == "reload":
        return {
            "what": random.choice(("keepalive", "path", "timeout", "schedules", "reduced", "size")),
            "value": random.randint(1, 9),
        }
    if kind == "clock":
        return {"by_ms": random.choice((-86_400_000, -8_000, 8_000, 3_600_000))}
    return {}


def _refused_while_it_hangs(random: Random, length_s: float) -> list[Step]:
    """Messages are refused, purged and repeated while their commit is under way: several things in
    a row that hardly ever meet by chance."""
    at_s = random.uniform(0.5, length_s)
    one: dict[str, Any] = {"stream": "sim.a", "count": 1}
    steps = [
        Step(at_s, "publish", one),
        Step(at_s + 1.0, "disk", {"state": "hangs", "commit_s": (0.0, 0.0), "for_s": 25.0}),
        Step(at_s + 1.1, "publish", {**one, "count": random.randint(1, 6), "as_list": False}),
        Step(at_s + 1.2, "publish", {**one, "kind": random.choice(("poison", "number"))}),
        Step(at_s + 1.3, "publish", {**one, "count": random.randint(1, 6), "as_list": False}),
        Step(at_s + random.uniform(1.2, 12.0), "close", {"code": 1011}),
        Step(at_s + random.uniform(3.0, 18.0), random.choice(("reset", "purge")), {}),
        Step(at_s + random.uniform(3.0, 18.0), "reset", {}),
    ]
    return [Step(round(step.at_s, 6), step.kind, step.arguments) for step in steps]


def _killed_while_it_recovers(random: Random, length_s: float) -> list[Step]:
    """A store with messages that can't be sent is damaged, and the agent is killed while it copies
    them. What was sent before would not be missed."""
    at_s = random.uniform(0.5, length_s)
    refused = {"answer": "refuse", "latency_s": (0.0005, 0.005), "piece_bytes": 1 << 20}
    one: dict[str, Any] = {"stream": "sim.b", "as_list": False}
    kill: dict[str, Any] = {"fuse": 0, "is_power_loss": False, "down_s": 0.0}
    steps = [
        Step(at_s, "weather", {**refused, "for_s": 8.0}),
        Step(at_s + 0.01, "reset", {}),
        Step(at_s + 0.1, "publish", {**one, "count": random.randint(1, 40)}),
        Step(at_s + 1.0, "crash", {**kill, "damage": None, "again": None}),
        Step(at_s + 1.5, "publish", {**one, "count": random.randint(1, 40)}),
        Step(
            at_s + random.uniform(1.5, 3.0),
            "crash",
            {
                **kill,
                "damage": random.choice(("no log", "scribble")),
                "again": random.randint(1, 20),
            },
        ),
    ]
    return [Step(round(step.at_s, 6), step.kind, step.arguments) for step in steps]


def _bytes(random: Random) -> int:
    return int(random.choice((10, 300, 3000, 100_000)) * random.random())


def _publishing(random: Random, taste: Taste) -> dict[str, Any]:
    shape = random.choices(
        ("one", "few", "list", "long list", "chain", "large"), (6, 5, 4, int(taste.is_bulky), 5, 2)
    )[0]
    arguments: dict[str, Any] = {"stream": f"sim.{random.choice('abc')}", "count": 1}
    if random.random() < taste.poison:
        return {**arguments, "kind": "poison"}
    if random.random() < 0.2:
        arguments["at_ms"] = 1_700_000_000_000 + random.randint(0, 10**9)
    if shape == "few":
        arguments |= {"count": random.randint(2, 20), "as_list": False}
    elif shape == "list":
        arguments |= {"count": random.randint(2, 300 if taste.is_bulky else 40)}
    elif shape == "long list":
        arguments |= {"count": random.randint(1_000, 3_000)}
    elif shape == "chain":
        arguments |= {
            "count": random.choice((1, 1, 3, 120 if taste.is_bulky else 12)),
            "chain": random.randint(1, 8),
            "fan": random.choice((1, 1, 2)),
            "size": random.choice((10, 10, 2_000)),
        }
        if arguments["count"] * arguments["fan"] ** arguments["chain"] > _MOST_EVENTS:
            arguments["fan"] = 1
    elif shape == "large":
        arguments |= {"count": random.randint(1, 8), "size": random.choice((3_000, 3_000, 40_000))}
    return arguments


def _asking(random: Random, asked: list[dict[str, Any]], taste: Taste) -> dict[str, Any]:
    """A burst of requests, or a repetition of one that was asked before."""
    if asked and random.random() < 0.35:
        return {**random.choice(asked), "times": 1}
    name = random.choices(
        ("SIM_ACT", "SIM_ACT_TOO", "SIM_READ", "SET_DEVICE_PARAMETERS", "GET_DEVICE_PARAMETERS"),
        (6, 2, 3, 2, 2),
    )[0]
    parameters: dict[str, Any] = {}
    if name == "SET_DEVICE_PARAMETERS":
        parameters = {"variableList": [{"name": "setting", "value": 1}]}
    elif name == "GET_DEVICE_PARAMETERS":
        parameters = {"variableList": ["setting"]}
    else:
        shape = random.choice(
            ("quick", "quick", "slow", "publishes", "waits", "large", "raises", "progress", "stops")
        )
        if taste.huge and random.random() < taste.huge:
            parameters["size"] = taste.scale * random.choice((50_000, 50_000, 250_000))
        elif shape == "slow":
            parameters["seconds"] = random.choice((0.01, 0.5, 5.0, 60.0))
        elif shape == "publishes":
            parameters["publishes"] = random.choice((1, 30))
        elif shape == "waits":
            parameters |= {"publishes": random.choice((1, 30)), "waits": True}
        elif shape == "large":
            parameters["size"] = random.choice((3_000, 40_000, 70_000))
        elif shape in ("raises", "progress"):
            parameters[shape] = True
        elif shape == "stops" and random.random() < 0.3:
            parameters["stops"] = True
    size = parameters.get("size", 0)
    one = {
        "first": f"r{len(asked)}",
        "name": name,
        "parameters": parameters,
        "count": random.choices((1, 5, 30), (6, 3, 1))[0] if size < 50_000 else 3,
        "times": random.choice((1, 1, 2)),
    }
    asked.append(one)
    return one
