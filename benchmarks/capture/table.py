"""What is captured: name, group, Debian package, license of what is drawn, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from capture.pages import Page
from capture.rendered import Program

NUM_FRAMES: Final = 48


@dataclass(frozen=True)
class Capture:
    """One master. Those of a `group` show the same level, program or document, and stay in one split."""

    group: str
    package: str
    license: str
    source: Program | Page
    width: int = 1280
    height: int = 720
    fps: int = 30


OPENARENA = (
    "openarena +set r_fullscreen 0 +set r_mode -1 +set r_customwidth {width} +set r_customheight {height} "
    "+set com_maxfps 1000 +set com_hunkMegs 512 +set com_introplayed 1 +set s_initsound 0 +set con_notifytime 0 "
    "+set cg_draw2D 0 "
)
# A bot plays; the camera goes with it. Frames before that are not drawn.
WATCH_BOT = (
    "+set bot_enable 1 +set g_gametype {kind} +devmap {level} +set r_norefresh 1 +addbot sarge 4 +addbot grism 4 "
    "+addbot major 4 +addbot skelebot 4 +wait 30 +team s +wait 60 +follownext +wait 30 +set r_norefresh 0"
)
LEVELS = {
    **dict.fromkeys(["ce1m7", "hydronex2", "islanddm", "oasago2", "oa_dm1", "oa_dm6", "am_thornish"], 0),
    **dict.fromkeys(["pul1ctf", "oa_bases7", "am_lavactf"], 4),
}


def _openarena() -> dict[str, Capture]:
    commands = {"demo": (OPENARENA + "+demo demo088-test1", 100)}
    for level, kind in LEVELS.items():
        watch = WATCH_BOT.replace("{kind}", str(kind)).replace("{level}", level)
        commands[level] = (OPENARENA + watch, 135)
    return {
        f"game_openarena_{name}_01": Capture("openarena", "openarena", "GPL-2+", Program(command, skip))
        for name, (command, skip) in commands.items()
    }


GLMARK = {"terrain": "terrain", "jellyfish": "jellyfish", "desktop": "desktop:windows=8"}


def _glmark() -> dict[str, Capture]:
    captures = {}
    for name, scene in GLMARK.items():
        program = Program(f"glmark2 -s {{width}}x{{height}} -b {scene}:duration=1000", skip=10)
        captures[f"game_glmark_{name}_01"] = Capture("glmark", "glmark2-x11", "GPL-3+", program)
    return captures


# OpenGL programs of xscreensaver, by how many frames are left out. Those of the first line are captured at 1080p.
HACKS_1080 = {40: ("atlantis", "boing", "cityflow", "crackberg", "discoball", "dymaxionmap")}
HACKS_720 = {
    40: ("engine", "geodesicgears", "glplanet", "headroom", "hypnowheel", "lament"),
    60: ("maze3d", "projectiveplane", "skytentacles", "timetunnel"),
    80: ("gibson", "razzledazzle", "vigilance", "voronoi"),
    150: ("cubestorm",),
}


def _hacks() -> dict[str, Capture]:
    captures = {}
    for size, hacks in (((1920, 1080), HACKS_1080), ((1280, 720), HACKS_720)):
        for skip, names in hacks.items():
            for name in names:
                program = Program(f"{name} --window --geometry {{width}}x{{height}}+0+0", skip)
                captures[f"game_xs_{name}_01"] = Capture(f"xs_{name}", "xscreensaver-gl", "MIT", program, *size)
    return captures


PYTHON, GIMP = "/usr/share/doc/python3-doc/html/library/", "/usr/share/gimp/2.0/help/en/"
DEBIAN = "/usr/share/debian-reference/"
PACKAGES = {  # group: package, license
    "pydoc": ("python3-doc", "PSF-2.0"),
    "gimphelp": ("gimp-help-en", "GFDL-1.2+"),
    "debref": ("debian-reference-en", "GPL-2+"),
}
DOCUMENTS = {  # start with the group
    "pydoc_asyncio_01": Page(PYTHON + "asyncio-task.html", start=600, speed=6),
    "pydoc_zoom_01": Page(PYTHON + "functions.html", "zoom", 300, 9),
    "pydoc_table_01": Page(PYTHON + "stdtypes.html", "fling", 9000, 110),
    "gimphelp_01": Page(GIMP + "gimp-filter-newsprint.html", start=300, speed=5),
    "gimphelp_02": Page(GIMP + "gimp-filter-oilify.html", "read", 100, 26),
    "debref_01": Page(DEBIAN + "ch01.en.html", "read", 4000, 30),
}


def _documents() -> dict[str, Capture]:
    captures = {}
    for name, page in DOCUMENTS.items():
        group = name.split("_")[0]
        captures[f"page_{name}"] = Capture(group, *PACKAGES[group], page)
    return captures


CHARTS = ("map", "globe", "force", "race")
DRAWINGS = ("life", "flock", "mandelbrot", "platformer", "fireworks", "testcard", "paint")
SHADERS = ("sky", "ink", "fire", "film", "aurora", "fractal", "pebbles")
SCENES = {  # name: module, further settings
    "mountains": ("outdoors", ""),
    "dunes": ("outdoors", "&grain=0.25"),
    "ocean": ("outdoors", "&exposure=1.6"),
    "village": ("outdoors", "&grain=0.3"),
    "meadow": ("outdoors", ""),
    "forest": ("outdoors", ""),
    "autumn": ("outdoors", "&grain=0.5"),
    "cellar": ("rooms", "&exposure=1.2"),
    "blocks": ("rooms", ""),
    "street": ("rooms", "&grain=0.25"),
    "square": ("rooms", ""),
    "cloth": ("rooms", ""),
    "metal": ("rooms", ""),
}
ONE_GROUP = {"autumn": "forest", "dunes": "mountains"}


def _drawn() -> dict[str, Capture]:
    """Pages of `scenes/`, which are this project's own."""
    ours = ("three, d3, world-atlas (npm)", "Apache-2.0")
    pages = {f"page_{name}_01": (name, Page("chart.html", "none", query=f"scene={name}")) for name in CHARTS}
    source = "text=/usr/lib/python3.11/argparse.py"
    pages["page_editor_01"] = ("editor", Page("table.html", "none", query=source))
    for name in DRAWINGS:
        pages[f"page_{name}_01"] = (name, Page("canvas.html", "none", query=f"scene={name}"))
    for name in SHADERS:
        pages[f"gl_{name}_01"] = (name, Page("shader.html", "none", query=f"scene={name}", webgl=True))
    for name, (module, more) in SCENES.items():
        query = f"file={module}&scene={name}{more}"
        pages[f"gl_{name}_01"] = (ONE_GROUP.get(name, name), Page("gl.html", "none", query=query, webgl=True))
    return {name: Capture(f"drawn_{group}", *ours, page) for name, (group, page) in pages.items()}


CAPTURES = _documents() | _drawn() | _hacks() | _glmark() | _openarena()
