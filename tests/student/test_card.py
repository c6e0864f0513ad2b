"""The table of errors in a model card."""

import pandas as pd

from student.card import error_table


def test_errors_are_listed_by_codec_encoder_display_height_and_coded_size() -> None:
    rows = [
        {"content": f"scene_{index % 3}", "codec": codec, "preset": preset, "height": height, "display_height": 1080,
         "score": 80.0, "student": 80.0 + error}
        for codec, preset, height, errors in (
            ("h264", "medium", 1080, (-4, -3, -5, -4, -4, -4)),
            ("h264", "veryfast", 540, (1, 2, 1, 2, 1, 2)),
            ("av1", "8", 1080, (0, 0, 0)),
        )
        for index, error in enumerate(errors)
    ]  # fmt: skip
    lines = error_table(pd.DataFrame(rows), "student")
    assert "| h264 medium | 6 | 3 | -4.0 | 4.0 |" in lines
    assert "| h264 | 12 | 3 | -1.2 | 3.1 |" in lines
    assert "| 1080 lines or more | 15 | 3 | -1.0 | 2.7 |" in lines
    assert "| 0.45 to 0.6 of the display height | 6 | 3 | +1.5 | 1.6 |" in lines
    assert not any(line.startswith("| av1 8 ") for line in lines)  # too few encodes
