"""What all HTML pages share: colors, and JSON inside a page. Needs no package beside the scorer's."""

# Okabe and Ito's colors, told apart by color-blind readers; without their yellow, which white swallows.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#3b3b3b")


def embed(text: str) -> str:
    """JSON as it may stand in a page's script element."""
    for char in "<>&\u2028\u2029":  # what could end the script element or the text early
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text
