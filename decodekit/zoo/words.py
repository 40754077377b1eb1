"""Word lists and syllables that the zoo's worlds are written with; everything drawn comes from a passed ``Random``."""

from random import Random


def spaced(words: str) -> tuple[str, ...]:
    """The words of a string."""
    return tuple(words.split())


_ONSETS = spaced("b br d f g h j k l m n p r s st t tr v w z")
_NUCLEI = spaced("a e i o u ai ea ou")
_CODAS = ("", "", *spaced("n r l s m nd rt x"))
_ENDINGS = spaced("a o en is ik el ura ov")

CITIES = spaced(
    "Oslo Lima Cairo Paris Turin Porto Dakar Delhi Osaka Quito Riga Sofia Tunis Vienna Warsaw Zagreb Athens "
    "Bergen Boston Bremen Dallas Denver Dublin Geneva Ghent Havana Helsinki Jakarta Kyoto Leeds Lyon Madrid "
    "Manila Milan Nairobi Naples Prague Seoul Sydney Tampa Toronto Utrecht Valencia York Zürich Málaga Köln "
    "Kraków"
)
MAIL_HOSTS = spaced(
    "example.org example.com mail.test post.example letters.test inbox.example office.test home.example"
)
ITEMS = spaced(
    "lamp kettle chair desk mirror carpet pillow blanket candle vase clock radio camera tripod guitar violin "
    "drum notebook pencil stapler scarf jacket helmet tent backpack bottle teapot toaster blender hammer "
    "ladder drill ball puzzle kite basket"
)
EVENT_KINDS = (
    "Jazz Night",
    "Chess Cup",
    "Book Fair",
    "Food Market",
    "Film Week",
    "Science Day",
    "Dance Gala",
    "City Run",
    "Wine Tasting",
    "Art Show",
    "Folk Festival",
    "Robot Rally",
    "Poetry Slam",
    "Garden Tour",
    "Winter Concert",
    "Bike Race",
)
MONTHS = spaced("January February March April May June July August September October November December")


def syllable(rng: Random) -> str:
    """One syllable, lower case."""
    return rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS)


def proper(rng: Random, fewest: int = 1, most: int = 2) -> str:
    """An invented capitalised name of ``fewest`` to ``most`` syllables and a closing vowel or consonant."""
    stem = "".join(syllable(rng) for _ in range(rng.randint(fewest, most)))
    return (stem + rng.choice(_ENDINGS)).capitalize()


def full_name(rng: Random) -> str:
    """First and last name; about eight hundred million are possible, so a model can only copy them."""
    return f"{proper(rng, 1, 1)} {proper(rng, 1, 2)}"


def email(rng: Random) -> str:
    """An invented address under a domain reserved for documentation or testing."""
    local = syllable(rng) + syllable(rng)
    shape = rng.random()
    if shape < 0.4:
        local += "." + syllable(rng) + rng.choice(("a", "o", "en"))
    elif shape < 0.7:
        local += str(rng.randint(1, 99))
    return f"{local}@{rng.choice(MAIL_HOSTS)}"


def listing(things: list[str]) -> str:
    """``["a", "b", "c"]`` as English: ``a, b and c``."""
    return things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]


_UNITS = spaced(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = spaced("zero ten twenty thirty forty fifty sixty seventy eighty ninety")


def number_word(number: int) -> str:
    """A number below one hundred in words: ``forty-two``."""
    if number < 20:
        return _UNITS[number]
    return _TENS[number // 10] + (f"-{_UNITS[number % 10]}" if number % 10 else "")


def spoken_date(rng: Random, year: int, month: int, day: int) -> str:
    """A date in one of five notations."""
    name = MONTHS[month - 1]
    suffix = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return rng.choice(
        (
            f"{year}-{month:02d}-{day:02d}",
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{day:02d}.{month:02d}.{year}",
            f"the {day}{suffix} of {name} {year}",
        )
    )
