"""One fact, said in every language of a group at once: the sentences of the sample corpus and of its language pairs.

Every word and every pattern comes from the Unicode CLDR through Babel. A group of one language gives monolingual text,
a group of two gives sentences that are translations of each other.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, cast

from babel import Locale
from babel.core import get_global
from babel.dates import format_date, format_time
from babel.languages import get_territory_language_info
from babel.lists import format_list
from babel.localedata import LocaleDataDict, load
from babel.numbers import format_currency, format_decimal, format_percent, get_territory_currencies

ListStyle = Literal["standard", "or"]
#: One sentence in each language of a group, in the group's order.
Row = list[str]

# The digit zero of the numbering systems that CLDR uses; Babel has their separators but writes European digits.
_ZEROS = {
    "adlm": 0x1E950, "arab": 0x660, "arabext": 0x6F0, "beng": 0x9E6, "cakm": 0x11136, "deva": 0x966, "hmnp": 0x1E140,
    "mtei": 0xABF0, "mymr": 0x1040, "nkoo": 0x7C0, "olck": 0x1C50, "rohg": 0x10D30, "tibt": 0xF20,
}  # fmt: skip
# Keys that stand for no place, language or money: test locales, "unknown", "none".
_PSEUDO_KEYS = frozenset(("XA", "XB", "ZZ", "und", "mul", "mis", "zxx", "root", "XXX", "XTS", "Etc/Unknown"))
_TABLES = {"territories": "territories", "languages": "languages", "currencies": "currency_names"}
_SPANS = {"hour": 23, "day": 30, "week": 8, "month": 11, "year": 99}
_FEW = 8  # with fewer names than this in a table, its sentences would all be the same


@dataclass(frozen=True)
class Words:
    """What CLDR says in one language, without what it inherits from another or falls back to.

    Attributes:
        code: corpus code, ``xxx_Ssss``.
        locale: Babel's locale, for patterns.
        names: table (``territories``, ``languages``, ``currencies``, ``cities``) -> CLDR key -> name.
        units: CLDR key of a unit -> plural category -> pattern, in full ("{0} kilometres").
        spans: CLDR key of a unit of time -> ``past`` or ``future`` -> plural category -> pattern ("{0} days ago").
        has_or: whether it can write a list of alternatives ("a, b or c").
        has_dates: whether it names the months and the weekdays.
        digits: translation table to its own digits; empty for European ones.
    """

    code: str
    locale: Locale
    names: Mapping[str, Mapping[str, str]]
    units: Mapping[str, Mapping[str, str]]
    spans: Mapping[str, Mapping[str, Mapping[str, str]]]
    has_or: bool
    has_dates: bool
    digits: Mapping[int, int]

    @property
    def knowledge(self) -> int:
        """How many names and units there are: how well CLDR knows the language."""
        return sum(map(len, self.names.values())) + len(self.units)

    def some(self, table: str, keys: Sequence[str], style: ListStyle = "standard") -> str:
        """Write names as a list the way the language does ("a, b and c", or with style ``or``: "a, b or c")."""
        return self.join([self.names[table][key] for key in keys], style)

    def join(self, items: Sequence[str], style: ListStyle = "standard") -> str:
        """Write a list of phrases."""
        return format_list(items, style, locale=self.locale)

    def number(self, value: float) -> str:
        """Write a number with the language's separators and digits."""
        return self._localised(format_decimal(value, locale=self.locale, numbering_system="default"))

    def percent(self, share: float) -> str:
        """Write a share, 0 to 1, as a percentage."""
        return self._localised(format_percent(share, locale=self.locale, numbering_system="default"))

    def money(self, value: int, currency: str) -> str:
        """Write an amount with the full name of its currency, in the plural form that the amount asks for."""
        options: dict[str, Any] = {"format_type": "name", "currency_digits": False, "numbering_system": "default"}
        return self._localised(format_currency(value, currency, "#,##0", locale=self.locale, **options))

    def date(self, day: datetime.date, width: Literal["full", "long"]) -> str:
        """Write a date, with its weekday (``full``) or without (``long``)."""
        return self._localised(format_date(day, width, locale=self.locale))

    def time(self, time: datetime.time) -> str:
        """Write a time of day."""
        return self._localised(format_time(time, "short", locale=self.locale))

    def span(self, value: int, unit: str) -> str:
        """Write how many units of time ago (negative) or ahead something is."""
        patterns = self.spans[unit]["past" if value < 0 else "future"]
        return self._filled(patterns, abs(value))

    def measure(self, value: int, unit: str) -> str:
        """Write a quantity with its unit in full."""
        return self._filled(self.units[unit], value)

    def _filled(self, patterns: Mapping[str, str], value: int) -> str:
        pattern = patterns.get(self.locale.plural_form(value), patterns["other"])
        return pattern.replace("{0}", self.number(value))

    def _localised(self, text: str) -> str:
        return text.translate(self.digits) if self.digits else text


@dataclass(frozen=True)
class Group:
    """Languages, and the CLDR keys that all of them have a name for, sorted."""

    words: tuple[Words, ...]
    names: Mapping[str, tuple[str, ...]]
    units: tuple[str, ...]
    spans: tuple[str, ...]
    spoken: tuple[tuple[str, tuple[str, ...]], ...]  # (territory, its languages, the most spoken first)
    paid: tuple[tuple[str, str], ...]  # (territory, its currency)
    located: tuple[tuple[str, str], ...]  # (city, its territory)
    either: ListStyle  # how to write alternatives: as such if all can, else as a plain list


Theme = Callable[[Random, Group], Row]


def load_words(identifier: str, code: str) -> Words:
    """Return the words of the CLDR locale ``identifier``, whose corpus code is ``code``."""
    locale = Locale.parse(identifier)
    data = _locale_data(identifier)
    parent = _locale_data(get_global("parent_exceptions").get(identifier, "root"))
    names = {table: _own(data[key], parent[key]) for table, key in _TABLES.items()}
    names["cities"] = (_english_cities() if identifier == "en" else {}) | _own(_cities(data), _cities(parent))
    past, future = (_own_patterns(data["date_fields"], parent["date_fields"], way) for way in ("past", "future"))
    zero = _ZEROS.get(locale.default_numbering_system)
    return Words(
        code=code,
        locale=locale,
        names=names,
        units=_own_patterns(data["unit_patterns"], parent["unit_patterns"], "long"),
        spans={
            unit: {"past": past[unit], "future": future[unit]} for unit in _SPANS if unit in past and unit in future
        },
        # What every language inherits is English.
        has_or=identifier == "en" or _has_or(data["list_patterns"], parent["list_patterns"]),
        has_dates=all(
            dict(data[table]["format"]["wide"]) != dict(parent[table]["format"]["wide"]) for table in ("months", "days")
        ),
        digits={} if zero is None else {ord("0") + digit: zero + digit for digit in range(10)},
    )


def group_of(*words: Words) -> Group:
    """Put languages together and find what all of them can name."""
    names = {table: _shared([each.names[table] for each in words]) for table in words[0].names}
    territories, languages, currencies = (frozenset(names[table]) for table in _TABLES)
    countries = sorted(key for key in territories if len(key) == 2)
    spoken = ((key, tuple(language for language in _spoken_in(key) if language in languages)) for key in countries)
    paid = ((key, currency) for key in countries for currency in get_territory_currencies(key)[:1])
    homes = get_global("zone_territories")
    return Group(
        words=words,
        names=names,
        units=_shared([each.units for each in words]),
        spans=_shared([each.spans for each in words]),
        spoken=tuple((key, some) for key, some in spoken if some),
        paid=tuple((key, currency) for key, currency in paid if currency in currencies),
        located=tuple((city, homes[city]) for city in names["cities"] if homes.get(city) in territories),
        either="or" if all(each.has_or for each in words) else "standard",
    )


def themes_of(group: Group) -> list[Theme]:
    """Return what a group has enough words to talk about."""
    has_dates = all(words.has_dates for words in group.words)
    possible = [
        (_places, len(group.names["territories"])),
        (_tongues, len(group.names["languages"])),
        (_spoken, len(group.spoken)),
        (_prices, len(group.names["currencies"])),
        (_wages, len(group.paid)),
        (_measures, len(group.units)),
        (_clocks, len(group.located)),
        (_shares, len(group.names["territories"])),
        (_spans, len(group.spans) * _FEW),
        (_dates, has_dates * _FEW),
        (_events, has_dates * len(group.names["territories"])),
    ]
    return [theme for theme, count in possible if count >= _FEW]


# ---- what a sentence may say -----------------------------------------------------------------------------------------


def _places(rng: Random, group: Group) -> Row:
    """Name some territories: "Kenya, Chad and Peru"."""
    return _list(rng, group, "territories")


def _tongues(rng: Random, group: Group) -> Row:
    """Name some languages."""
    return _list(rng, group, "languages")


def _spoken(rng: Random, group: Group) -> Row:
    """Say what is spoken in a country: "Kenya: Swahili and English"."""
    territory, languages = rng.choice(group.spoken)
    return [f"{words.names['territories'][territory]}: {words.some('languages', languages)}" for words in group.words]


def _prices(rng: Random, group: Group) -> Row:
    """Name amounts of money: "15 euros or 2,000 yen"."""
    amounts = [(_amount(rng), currency) for currency in rng.sample(group.names["currencies"], 2)]
    return [words.join([words.money(*amount) for amount in amounts], group.either) for words in group.words]


def _wages(rng: Random, group: Group) -> Row:
    """Name an amount in the money of a country: "Kenya: 300 Kenyan shillings"."""
    territory, currency = rng.choice(group.paid)
    value = _amount(rng)
    return [f"{words.names['territories'][territory]}: {words.money(value, currency)}" for words in group.words]


def _measures(rng: Random, group: Group) -> Row:
    """Name quantities: "3 kilometres and 20 litres"."""
    units = [(_amount(rng), unit) for unit in rng.sample(group.units, rng.randint(2, 3))]
    return [words.join([words.measure(*unit) for unit in units]) for words in group.words]


def _clocks(rng: Random, group: Group) -> Row:
    """Give the time of day in a city: "Nairobi (Kenya): 14:30"."""
    city, territory = rng.choice(group.located)
    time = datetime.time(rng.randrange(24), rng.randrange(60))
    return [
        f"{words.names['cities'][city]} ({words.names['territories'][territory]}): {words.time(time)}"
        for words in group.words
    ]


def _shares(rng: Random, group: Group) -> Row:
    """Give shares of territories: "Kenya 34%, Chad 6% and Peru 60%"."""
    parts = [(key, rng.randrange(1, 100) / 100) for key in rng.sample(group.names["territories"], rng.randint(2, 4))]
    return [
        words.join([f"{words.names['territories'][key]} {words.percent(share)}" for key, share in parts])
        for words in group.words
    ]


def _spans(rng: Random, group: Group) -> Row:
    """Say how far from now something is: "3 days ago and in 2 weeks"."""
    spans = [(rng.choice((-1, 1)) * rng.randint(1, _SPANS[unit]), unit) for unit in rng.choices(group.spans, k=2)]
    return [words.join([words.span(*span) for span in spans]) for words in group.words]


def _dates(rng: Random, group: Group) -> Row:
    """Give two dates: "3 May 1987 or Friday, 5 March 2021"."""
    days = _day(rng), _day(rng)
    return [
        words.join([words.date(days[0], "long"), words.date(days[1], "full")], group.either) for words in group.words
    ]


def _events(rng: Random, group: Group) -> Row:
    """Put a date to places: "Friday, 5 March 2021: Kenya and Peru"."""
    day, places = _day(rng), rng.sample(group.names["territories"], rng.randint(1, 3))
    return [f"{words.date(day, 'full')}: {words.some('territories', places)}" for words in group.words]


def _list(rng: Random, group: Group, table: str) -> Row:
    keys = rng.sample(group.names[table], rng.randint(2, 5))
    style = group.either if rng.random() < 0.3 else "standard"
    return [words.some(table, keys, style) for words in group.words]


def _amount(rng: Random) -> int:
    """Return a number that is small as often as it is large, so that every plural form comes up."""
    return rng.randint(1, rng.choice((5, 30, 1000, 100_000)))


def _day(rng: Random) -> datetime.date:
    return datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(36525))


# ---- what CLDR knows -------------------------------------------------------------------------------------------------


def _own(names: Mapping[str, Any], inherited: Mapping[str, Any]) -> dict[str, str]:
    """Return the names that are the language's own and say more than their key."""
    return {
        key: name
        for key, name in names.items()
        if key not in _PSEUDO_KEYS and isinstance(name, str) and name.strip() and name not in (key, inherited.get(key))
    }


def _locale_data(identifier: str) -> Mapping[str, Any]:
    """Return Babel's tables for a locale: its own data over what it inherits."""
    tables: Any = load(identifier)
    return cast("Mapping[str, Any]", LocaleDataDict(tables))


def _own_patterns(units: Mapping[str, Any], inherited: Mapping[str, Any], form: str) -> dict[str, Mapping[str, str]]:
    """Return unit -> plural category -> pattern for the units that have ``form`` in the language itself."""
    found: dict[str, Mapping[str, str]] = {}
    for unit, forms in units.items():
        patterns = {key: text for key, text in forms.get(form, {}).items() if isinstance(text, str) and "{0}" in text}
        if "other" in patterns and patterns["other"] != inherited.get(unit, {}).get(form, {}).get("other"):
            found[unit] = patterns
    return found


def _has_or(patterns: Mapping[str, Any], inherited: Mapping[str, Any]) -> bool:
    own, other = patterns["or"], inherited["or"]
    return all(own[part] != other[part] for part in ("2", "end"))


def _cities(data: Mapping[str, Any]) -> dict[str, str]:
    return {zone: names["city"] for zone, names in data["time_zones"].items() if "city" in names}


def _english_cities() -> dict[str, str]:
    """Return the cities that time zones are named after: in English CLDR lists only those that differ from that."""
    zones = (zone for zone in get_global("zone_territories") if "/" in zone and not zone.startswith("Etc/"))
    return {zone: zone.rpartition("/")[2].replace("_", " ") for zone in zones}


def _shared(tables: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted(set(tables[0]).intersection(*tables[1:])))


@functools.cache
def _spoken_in(territory: str) -> tuple[str, ...]:
    """Return up to four languages of a territory, the most spoken first."""
    shares = {
        language: float(info["population_percent"] or 0)
        for language, info in get_territory_language_info(territory).items()
        if info
    }
    return tuple(sorted(shares, key=lambda language: (-shares[language], language))[:4])
