"""HLS and DASH as packaged by ffmpeg: the joined segments decode to the encode's own frames."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rungwise.ladder.encodes import find_encodes
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.playlists import Piece, read_playlist, write_whole
from rungwise.media.video import probe, rgb_frames

FRAMES = (0, 5, 11)


def same_frames(one: Path, other: Path) -> bool:
    pairs = zip(rgb_frames(one, FRAMES), rgb_frames(other, FRAMES), strict=True)
    return all((a[1] == b[1]).all() for a, b in pairs)


def package(folder: Path, clips: list[Path], *arguments: str) -> Path:
    """Copy encodes into a playlist of 0.5 s segments, without encoding again."""
    folder.mkdir(exist_ok=True)
    inputs = [word for clip in clips for word in ("-i", str(clip))]
    maps = [word for i in range(len(clips)) for word in ("-map", f"{i}:v")]
    run_ffmpeg([*inputs, *maps, "-c", "copy", *arguments], cwd=folder)
    if "hls" in arguments:  # ffmpeg writes a master playlist only of streams that state a bitrate
        variants = [f"#EXT-X-STREAM-INF:BANDWIDTH=900000\nv{i}/list.m3u8\n" for i in range(len(clips))]
        (folder / "all.m3u8").write_text("#EXTM3U\n" + "".join(variants))
    return folder


@pytest.fixture(scope="module")
def clips(master: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two encodes with a keyframe every 0.5 s."""
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for height, crf in ((108, 24), (54, 30)):
        paths.append(folder / f"{height}.mp4")
        quality = ["-c:v", "libx264", "-crf", str(crf), "-g", "6", "-threads", "1", "-pix_fmt", "yuv420p"]
        run_ffmpeg(["-i", str(master), "-vf", f"scale=-2:{height}", *quality, str(paths[-1])])
    return paths


HLS = ["-f", "hls", "-hls_time", "0.5", "-hls_playlist_type", "vod"]
NAMES = ["-var_stream_map", "v:0 v:1", "v%v/list.m3u8"]
HLS_KINDS = {
    "ts": [],
    "fmp4": ["-hls_segment_type", "fmp4"],
    "byte ranges": ["-hls_flags", "single_file"],
    "fmp4 byte ranges": ["-hls_segment_type", "fmp4", "-hls_flags", "single_file"],
}
DASH_KINDS = {
    "timeline": [],
    "numbers": ["-use_timeline", "0"],
    "list": ["-use_template", "0"],
    "single file": ["-single_file", "1"],
}


@pytest.mark.parametrize("kind", HLS_KINDS)
def test_hls(tmp_path: Path, clips: list[Path], kind: str) -> None:
    package(tmp_path / "hls", clips, *HLS, *HLS_KINDS[kind], *NAMES)
    variants = read_playlist(tmp_path / "hls" / "all.m3u8")
    assert [(v.name, v.problem) for v in variants] == [("v0/list.m3u8", ""), ("v1/list.m3u8", "")]
    for i, (variant, clip) in enumerate(zip(variants, clips, strict=True)):
        whole = write_whole(variant, tmp_path / f"{i}.video")
        assert same_frames(whole, clip)
        assert probe(whole).num_frames == 12
        assert probe(whole).duration_seconds == pytest.approx(1.0, abs=0.01)
        assert variant.declared_kbps
    found = find_encodes(tmp_path / "hls" / "all.m3u8", tmp_path)
    assert [(e.rung.height, e.rung.codec) for e in found.encodes] == [(54, "h264"), (108, "h264")]
    alone = find_encodes(tmp_path / "hls" / "v0" / "list.m3u8", tmp_path)
    assert [(e.rung.name, e.rung.height) for e in alone.encodes] == [("list.m3u8", 108)]


@pytest.mark.parametrize("kind", DASH_KINDS)
def test_dash(tmp_path: Path, clips: list[Path], kind: str) -> None:
    arguments = ["-f", "dash", "-seg_duration", "0.5", *DASH_KINDS[kind], "all.mpd"]
    package(tmp_path / "dash", clips, *arguments)
    variants = read_playlist(tmp_path / "dash" / "all.mpd")
    assert [(v.name, v.problem) for v in variants] == [("0", ""), ("1", "")]
    for i, (variant, clip) in enumerate(zip(variants, clips, strict=True)):
        whole = write_whole(variant, tmp_path / f"{i}.video")
        assert same_frames(whole, clip)
        assert probe(whole).num_frames == 12
        assert variant.declared_kbps
    found = find_encodes(tmp_path / "dash" / "all.mpd", tmp_path)
    assert [e.rung.height for e in found.encodes] == [54, 108]


def write_hls(folder: Path, body: str, master: str = "") -> Path:
    (folder / "a.m3u8").write_text("#EXTM3U\n" + body + "#EXT-X-ENDLIST\n")
    path = folder / "all.m3u8"
    path.write_text("#EXTM3U\n" + (master or "#EXT-X-STREAM-INF:BANDWIDTH=9000,AVERAGE-BANDWIDTH=8000\na.m3u8\n"))
    return path


def test_hls_ranges_and_names(tmp_path: Path) -> None:
    body = (
        '#EXT-X-MAP:URI="a%20b.mp4",BYTERANGE="10@0"\n#EXT-X-KEY:METHOD=NONE\n#EXT-X-DISCONTINUITY\n'
        "#EXT-X-BYTERANGE:5@10\n#EXTINF:1,\na%20b.mp4\n#EXT-X-BYTERANGE:7\n#EXTINF:1,\na%20b.mp4\n"
        "#EXTINF:1,\nsub/c.m4s?token=1\n"
    )
    (variant,) = read_playlist(write_hls(tmp_path, body))
    file = tmp_path / "a b.mp4"
    name, other = str(file), str(tmp_path / "sub" / "c.m4s")
    pieces = (Piece(name, 0, 10), Piece(name, 10, 5), Piece(name, 15, 7), Piece(other))
    assert (variant.pieces, variant.declared_kbps) == (pieces, 8.0)
    file.write_bytes(bytes(range(18)))
    with pytest.raises(ValueError, match="ends before byte 22"):
        write_whole(variant, tmp_path / "out")
    file.write_bytes(bytes(range(22)))
    with pytest.raises(ValueError, match=r"c\.m4s: a segment of the playlist, but there is no such file"):
        write_whole(variant, tmp_path / "out")


def test_hls_that_lists_one_video_with_two_audio_tracks(tmp_path: Path) -> None:
    master = (
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",URI="sound.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=9000,CODECS="avc1.4d401f,mp4a.40.2",AUDIO="a"\na.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=9900,CODECS="avc1.4d401f,ec-3",AUDIO="b"\na.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=64,CODECS="mp4a.40.2"\nsound.m3u8\n'
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=64,URI="i.m3u8"\n'
    )
    (variant,) = read_playlist(write_hls(tmp_path, "#EXTINF:1,\nx.ts\n", master))
    assert (variant.name, variant.declared_kbps) == ("a.m3u8", 9.0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:1,\nx.ts\n', "encrypted .AES-128."),
        ("#EXTINF:1,\nhttps://cdn.example/x.ts\n", "remote; only local files"),
        ("#EXTINF:1,\nx.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:1,\ny.ts\n", "discontinuity"),
        ("", "lists no segment"),
    ],
)
def test_an_hls_variant_that_can_not_be_read_has_a_problem(tmp_path: Path, body: str, words: str) -> None:
    path = write_hls(tmp_path, body)
    (variant,) = read_playlist(path)
    assert variant.name == "a.m3u8"
    with pytest.raises(ValueError, match=words):
        raise ValueError(variant.problem)
    with pytest.raises(ValueError, match=f"holds no rung that can be read.*{words}"):
        find_encodes(path, tmp_path)


def test_one_broken_variant_does_not_lose_the_others(tmp_path: Path, clips: list[Path]) -> None:
    folder = package(tmp_path / "hls", clips, *HLS, *NAMES)
    (folder / "v1" / "list1.ts").unlink()
    found = find_encodes(folder / "all.m3u8", tmp_path)
    assert [e.rung.height for e in found.encodes] == [108]
    assert "no such file" in found.failures["v1/list.m3u8"]


def test_more_is_sent_than_declared(tmp_path: Path, clips: list[Path]) -> None:
    folder = package(tmp_path / "hls", clips, *HLS, *NAMES)
    text = (folder / "all.m3u8").read_text()
    lines = ["#EXT-X-STREAM-INF:BANDWIDTH=20000" if "BANDWIDTH" in line else line for line in text.splitlines()]
    (folder / "all.m3u8").write_text("\n".join(lines))
    found = find_encodes(folder / "all.m3u8", tmp_path)
    assert any(note.startswith("v0/list.m3u8 sends") and "more than the playlist's 20" in note for note in found.notes)


def write_mpd(path: Path, inside: str, **attributes: str) -> Path:
    told = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    period = f"<Period>{inside}</Period>" if "<Period" not in inside else inside
    path.write_text(f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {told}>{period}</MPD>')
    return path


def test_dash_templates(tmp_path: Path) -> None:
    inside = (
        '<BaseURL>media/</BaseURL><AdaptationSet mimeType="audio/mp4"><Representation id="s"/></AdaptationSet>'
        '<AdaptationSet contentType="video"><SegmentTemplate timescale="10" startNumber="3" '
        'initialization="$RepresentationID$/i.mp4" media="$RepresentationID$/$Number%03d$-$Time$-$Bandwidth$$$.m4s">'
        '<SegmentTimeline><S t="5" d="10" r="1"/><S d="4" r="-1"/></SegmentTimeline></SegmentTemplate>'
        '<Representation id="v" bandwidth="5000"/></AdaptationSet>'
    )
    (variant,) = read_playlist(write_mpd(tmp_path / "a.mpd", inside, mediaPresentationDuration="PT0H0M3.3S"))
    names = [str(Path(piece.address).relative_to(tmp_path / "media" / "v")) for piece in variant.pieces]
    assert names == ["i.mp4", *(f"{n:03}-{t}-5000$.m4s" for n, t in ((3, 5), (4, 15), (5, 25), (6, 29)))]
    assert (variant.name, variant.declared_kbps) == ("v", 5.0)


@pytest.mark.parametrize(
    ("inside", "attributes", "words"),
    [
        ("", {"type": "dynamic"}, "live manifest"),
        ("<Period/><Period/>", {}, "has 2 periods"),
        ('<AdaptationSet mimeType="audio/mp4"><Representation/></AdaptationSet>', {}, "lists no video"),
    ],
)
def test_dash_manifests_that_are_not_a_finished_title(
    tmp_path: Path, inside: str, attributes: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        read_playlist(write_mpd(tmp_path / "a.mpd", inside, **attributes))


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("<ContentProtection/><Representation id='v'/>", "v is encrypted"),
        ("<Representation id='v'><BaseURL>http://x.example/a.mp4</BaseURL></Representation>", "remote; only local"),
        ("<Representation id='v'/>", "neither segments nor a BaseURL file"),
        ("<SegmentTemplate duration='1' media='$Number$'/><Representation id='v'/>", "needs the period's duration"),
        ("<SegmentTemplate duration='1'/><Representation id='v'/>", "needs the period's duration"),
        ("<SegmentTemplate media='$Nr$' duration='1' endNumber='1'/><Representation id='v'/>", "v lacks 'Nr'"),
    ],
)
def test_a_dash_variant_that_can_not_be_read_has_a_problem(tmp_path: Path, inside: str, words: str) -> None:
    (variant,) = read_playlist(
        write_mpd(tmp_path / "a.mpd", f"<AdaptationSet mimeType='video/mp4'>{inside}</AdaptationSet>")
    )
    assert words in variant.problem


def test_files_that_are_not_playlists(tmp_path: Path) -> None:
    for name, text, words in (
        ("a.m3u8", "hello", "not #EXTM3U"),
        ("a.mpd", "<MPD", "broken XML"),
        ("b.mpd", "<html/>", "the root element is <html>"),
        ("b.m3u8", "#EXTM3U\n", "lists no video"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=words):
            read_playlist(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        read_playlist(tmp_path / "none.mpd")
    os.makedirs(tmp_path / "empty")
    with pytest.raises(ValueError, match="no video directly in this folder"):
        find_encodes(tmp_path / "empty", tmp_path)
    with pytest.raises(ValueError, match=r"name its playlist, .*a\.m3u8"):
        find_encodes(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="only playlists are checked"):
        find_encodes("https://cdn.example/all.mp4", tmp_path)


SEGMENT = "#EXTINF:1,\nx.ts\n"


@pytest.mark.parametrize("kind", ["", "#EXT-X-PLAYLIST-TYPE:EVENT\n"])
def test_hls_without_an_end_is_refused(tmp_path: Path, kind: str) -> None:
    write_hls(tmp_path, kind + SEGMENT)
    assert read_playlist(tmp_path / "all.m3u8")[0].problem == ""
    (tmp_path / "a.m3u8").write_text(f"#EXTM3U\n{kind}{SEGMENT}")
    for name in ("a.m3u8", "all.m3u8"):
        with pytest.raises(ValueError, match=r"a\.m3u8: live .*ENDLIST"):
            read_playlist(tmp_path / name)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("#EXT-X-GAP\n#EXTINF:1,\nx.ts\n", "EXT-X-GAP"),
        ("#EXT-X-I-FRAMES-ONLY\n" + SEGMENT, "I-frame playlist"),
        ("#EXT-X-BYTERANGE:-5@0\n" + SEGMENT, "byte range '-5@0'"),
        ("#EXTINF:1,\n../x.ts\n", "outside the playlist's own folder"),
        ("#EXTINF:1,\n%2e%2e/x.ts\n", "outside the playlist's own folder"),
        ('#EXT-X-DEFINE:NAME="up",VALUE=".."\n#EXTINF:1,\n{$up}/x.ts\n', "outside the playlist's own folder"),
        ("#EXTINF:1,\n{$cdn}/x.ts\n", "{$cdn} is used"),
        ('#EXT-X-DEFINE:IMPORT="cdn"\n' + SEGMENT, "imports cdn"),
        ('#EXT-X-DEFINE:QUERYPARAM="cdn"\n' + SEGMENT, "URI"),
        ('#EXT-X-DEFINE:NAME="cdn"\n' + SEGMENT, "no VALUE"),
    ],
)
def test_hls_errors(tmp_path: Path, body: str, words: str) -> None:
    (variant,) = read_playlist(write_hls(tmp_path, body))
    assert words in variant.problem
    assert not variant.pieces


def test_hls_variables(tmp_path: Path) -> None:
    master = (
        '#EXT-X-DEFINE:NAME="list",VALUE="a"\n#EXT-X-DEFINE:NAME="file",VALUE="seg"\n'
        "#EXT-X-STREAM-INF:BANDWIDTH=9000\n{$list}.m3u8?part=p%20q\n"
    )
    body = (
        '#EXT-X-DEFINE:IMPORT="file"\n#EXT-X-DEFINE:QUERYPARAM="part"\n'
        '#EXT-X-MAP:URI="{$file}.mp4"\n#EXTINF:1,\n{$file}/{$part}.m4s\n'
    )
    (variant,) = read_playlist(write_hls(tmp_path, body, master))
    assert (variant.name, variant.problem) == ("a.m3u8", "")
    assert [Path(piece.address) for piece in variant.pieces] == [tmp_path / "seg.mp4", tmp_path / "seg" / "p q.m4s"]
    with pytest.raises(ValueError, match=r"imports file .*without one"):
        read_playlist(tmp_path / "a.m3u8")


def test_a_master_playlist_opens_nothing_outside_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret.m3u8").write_text("not a playlist, and never read")
    master = "#EXT-X-STREAM-INF:BANDWIDTH=9000\n../secret.m3u8\n"
    (variant,) = read_playlist(write_hls(home, SEGMENT, master))
    assert "outside the playlist's own folder" in variant.problem
    with pytest.raises(ValueError, match="outside"):
        find_encodes(home / "all.m3u8", tmp_path)


@pytest.mark.parametrize("second", ["cdn2/a.m3u8", "https://cdn2.example/a.m3u8", "a.m3u8?cdn=2"])
def test_a_rendition_at_two_addresses_is_one_rung(tmp_path: Path, second: str) -> None:
    stated = '#EXT-X-STREAM-INF:BANDWIDTH=9000,RESOLUTION=64x36,CODECS="avc1.4d401f,mp4a.40.2"\n'
    path = write_hls(tmp_path, SEGMENT, f"{stated}a.m3u8\n{stated}{second}\n")
    (tmp_path / "cdn2").mkdir()
    for folder in (tmp_path, tmp_path / "cdn2"):
        (folder / "a.m3u8").write_text(f"#EXTM3U\n{SEGMENT}#EXT-X-ENDLIST\n")
        (folder / "x.ts").write_bytes(b"segment")
    notes: list[str] = []
    (variant,) = read_playlist(path, notes)
    assert (variant.name, variant.problem, variant.declared_kbps) == ("a.m3u8", "", 9.0)
    assert len(notes) == 1
    assert "redundant" in notes[0]
    (tmp_path / "cdn2" / "x.ts").write_bytes(b"another")
    if second.startswith("cdn2"):
        assert len(read_playlist(path)) == 2


TRICK = "http://dashif.org/guidelines/trickmode"
PLAYED = "<AdaptationSet mimeType='video/mp4'><Representation id='v'><BaseURL>v.mp4</BaseURL></Representation>"


@pytest.mark.parametrize(
    ("properties", "played", "noted"),
    [
        (f"<EssentialProperty schemeIdUri='{TRICK}' value='0'/>", False, False),
        (f"<SupplementalProperty schemeIdUri='{TRICK}' value='0'/>", False, False),
        ("<EssentialProperty schemeIdUri='http://dashif.org/guidelines/thumbnail_tile' value='5x5'/>", False, False),
        ("<EssentialProperty schemeIdUri='urn:example:unknown'/>", False, True),
        ("<SupplementalProperty schemeIdUri='urn:example:unknown'/>", True, False),
        ("<EssentialProperty schemeIdUri='urn:mpeg:mpegB:cicp:MatrixCoefficients' value='1'/>", True, False),
    ],
)
@pytest.mark.parametrize("inner", [False, True])
def test_dash_sets_that_are_not_played(tmp_path: Path, properties: str, played: bool, noted: bool, inner: bool) -> None:
    of_set, of_representation = ("", properties) if inner else (properties, "")
    other = (
        f"<AdaptationSet mimeType='video/mp4'>{of_set}<Representation id='w' height='36'>"
        f"{of_representation}<BaseURL>w.mp4</BaseURL></Representation></AdaptationSet>"
    )
    notes: list[str] = []
    variants = read_playlist(write_mpd(tmp_path / "a.mpd", f"{PLAYED}</AdaptationSet>{other}"), notes)
    assert [variant.name for variant in variants] == (["v", "w"] if played else ["v"])
    assert any("urn:example:unknown" in note for note in notes) == noted


@pytest.mark.parametrize(
    ("duration", "count"),
    [("P1W", 7), ("P1M", 30), ("P1Y", 365), ("P1Y2M1W3DT24H", 436), ("PT36H", 2), ("P0,5D", 1), ("P2D", 2)],
)
def test_dash_durations(tmp_path: Path, duration: str, count: int) -> None:
    inside = "<SegmentTemplate duration='86400' media='$Number%02d$.m4s'/><Representation id='v'/>"
    path = write_mpd(
        tmp_path / "a.mpd",
        f"<AdaptationSet mimeType='video/mp4'>{inside}</AdaptationSet>",
        mediaPresentationDuration=duration,
    )
    (tmp_path / f"{count:02}.m4s").write_bytes(b"last")
    assert len(read_playlist(path)[0].pieces) == count


@pytest.mark.parametrize("duration", ["P", "PT", "-PT5S", "1:30", "PT5"])
def test_invalid_durations(tmp_path: Path, duration: str) -> None:
    with pytest.raises(ValueError, match=r"a\.mpd: .*not a duration"):
        read_playlist(write_mpd(tmp_path / "a.mpd", f"{PLAYED}</AdaptationSet>", mediaPresentationDuration=duration))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("<SegmentTemplate duration='0' media='$Number$'/>", "above 0"),
        (
            "<SegmentTemplate media='$Time$'><SegmentTimeline><S d='0' r='-1'/></SegmentTimeline></SegmentTemplate>",
            "above 0",
        ),
        (
            "<SegmentTemplate media='$Time$'><SegmentTimeline><S d='1' r='999999'/></SegmentTimeline>"
            "</SegmentTemplate>",
            "more than",
        ),
        ("<SegmentTemplate timescale='1000000' duration='1' media='$Number$'/>", "more than"),
        ("<SegmentList><SegmentURL media='a.m4s' mediaRange='9-'/></SegmentList>", "byte range '9-'"),
    ],
)
def test_dash_errors(tmp_path: Path, template: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dash", "variants"):
        monkeypatch.setattr(f"rungwise.media.{module}.MAX_SEGMENTS", 1000)
    inside = f"<AdaptationSet mimeType='video/mp4'>{template}<Representation id='v'/></AdaptationSet>"
    (variant,) = read_playlist(write_mpd(tmp_path / "a.mpd", inside, mediaPresentationDuration="PT1H"))
    assert words in variant.problem
