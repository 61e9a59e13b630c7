"""The settings of the corpus pipeline, one section for each stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from megatron.config.fields import (
    AnyCase,
    Count,
    CountOrZero,
    Fraction,
    Positive,
    Section,
    Seed,
    Switch,
    Text,
    as_tuple,
)

Format = Annotated[
    Literal["auto", "jsonl", "parquet", "arrow", "text", "lines", "moses", "tmx"], AnyCase()
]
SourceName = Annotated[
    Literal["monolingual", "bilingual", "code", "instruction", "book", "paper"], AnyCase()
]


class InputConfig(Section):
    """One place that raw text comes from, and how to read it."""

    path: Text
    """A file, or a folder in MaLA's layout: `<name>/<files>`, `<name>.jsonl` or `<group>/<name>/<files>`. Of two files
    that are a Moses pair either may be named."""
    format: Format = "auto"
    """`auto` goes by the ending of each file: `.jsonl`, `.ndjson`, `.txt` and `.tmx`, plain or with `.gz` or `.zst`,
    `.json.gz`, `.json.zst`, `.parquet`, `.arrow`, and OPUS's `NAME.en-sw.en` with `NAME.en-sw.sw`. `text` is a file of
    plain text that is one document, as `auto` reads `.txt`; `lines` is one with a document a line; `moses` are any two
    files of lines, `<name>.<code>` twice. A file that is named by `path` itself may have any ending."""
    source: SourceName | None = None
    """What the text is; the name of each corpus says it when absent."""
    language: Text | None = None
    """The code of its documents that carry none; any code that the stage `languages` understands, and two of them
    joined by a blank for pairs. Two codes replace those that the names of Moses files end in, and choose the sides of
    TMX units that have more."""
    text_key: Text = "text"
    """Field that holds the text; of a record without any of these fields `content` is read, as code."""
    code_key: Text = "original_code"
    """Field that holds the language code of a document."""
    src_text_key: Text = "src_text"
    """Field that holds the first side of a pair."""
    tgt_text_key: Text = "tgt_text"
    """Field that holds the second side."""
    src_lang_key: Text = "src_lang"
    """Field that holds the code of the first side."""
    tgt_lang_key: Text = "tgt_lang"
    """Field that holds the code of the second side."""
    prompt_key: Text = "prompt"
    """Field that holds the prompt of an instruction; `instruction`, `inputs` and `question` are also looked for.
    `input` or `context` is added to it, and `system` goes before it."""
    response_key: Text = "response"
    """Field that holds the answer; `output`, `targets`, `completion` and `answer` are also looked for."""
    messages_key: Text = "messages"
    """Field that holds a chat: a list of `{role, content}` or `{from, value}`; `conversations` is also looked for."""


Inputs = Annotated[tuple[InputConfig, ...], Field(min_length=1), BeforeValidator(as_tuple)]


class ReadConfig(Section):
    """Stage `read`."""

    broken_records: Annotated[Literal["drop", "stop"], AnyCase()] = "drop"
    """What to do with a record that is no JSON, no UTF-8, too long, or lacks its fields: leave it out and count it, or
    stop the file with an error. Where nothing can be read after it (XML, Parquet, Arrow), it is always an error."""
    cut_short: Annotated[Literal["stop", "drop"], AnyCase()] = "stop"
    """What to do with a compressed file that ends in the middle: an error for this file, or keep what could be read."""
    max_document_bytes: Count = 64 << 20
    """Longer records are broken ones. Memory grows with it."""
    piece_bytes: Count = 64 << 20
    """Text of a corpus that makes one piece; pieces are the units of work of all later stages."""


def _no_switch(value: object) -> object:
    """Refuse what YAML makes of an unquoted `no`, the code of Norwegian."""
    if isinstance(value, bool):
        raise ValueError("YAML reads no, yes, on and off as switches: write a language code among them in quotes, 'no'")
    return value


LanguageCode = Annotated[Text, BeforeValidator(_no_switch)]


class LanguagesConfig(Section):
    """Stage `languages`: any code to ISO 639-3."""

    aliases: dict[LanguageCode, LanguageCode] = Field(default_factory=dict)
    """Codes of yours to codes or names that are known, before anything else is looked up: `{cn: zho, jp: jpn}`."""
    map: dict[LanguageCode, LanguageCode] = Field(default_factory=dict)
    """ISO 639-3 to ISO 639-3, after everything else, once: `{cmn: zho, arb: ara}` joins members to their
    macrolanguage, `{swa: swh}` does the opposite."""
    macrolanguages: Annotated[Literal["keep", "map"], AnyCase()] = "keep"
    """`map` replaces every member of a macrolanguage by the macrolanguage, unless `map` names it."""
    drop: Annotated[tuple[LanguageCode, ...], BeforeValidator(as_tuple)] = ()
    """Languages to leave out, by the code that comes out, such as `[und]`."""


class ScriptConfig(Section):
    """Stage `script`: the script of every document."""

    known: Annotated[Literal["correct", "drop", "keep"], AnyCase()] = "correct"
    """What to do where the text contradicts its label, and is in a script that the language is known to be written
    in: correct the label, leave the document out, or leave the label. Of a language that no table lists, every script
    counts as known."""
    unknown: Annotated[Literal["correct", "drop", "keep"], AnyCase()] = "drop"
    """The same for a script that the language is not known to be written in, also where the label names no script."""
    han: Annotated[Literal["Hani", "keep"], AnyCase()] = "Hani"
    """`Hani` writes the labels Hans and Hant as Hani, as MaLA does; `keep` keeps them."""
    min_letters: Count = 10
    """Texts with fewer characters of any script do not contradict their label."""
    min_share: Fraction = 0.2
    """A script with at least this share of the characters of any script is one of the text's: a text that has two is
    mixed, and does not contradict a label that names one of them."""


class CleanConfig(Section):
    """Stage `clean`: each rule changes texts, and is counted where it does."""

    unicode: Annotated[Literal["NFC", "NFKC", "none"], AnyCase()] = "NFC"
    """Unicode normalisation; NFKC loses distinctions (superscripts, widths, ligatures)."""
    mojibake: Switch = True
    """Mend text that was decoded with the wrong encoding, where a cheap test suspects it."""
    html: Switch = True
    """Remove scripts, styles, comments and tags, and replace entities. Not for code and instructions."""
    control: Switch = True
    """Remove control and format characters, except line feed, tab and the joiners U+200C and U+200D."""
    whitespace: Switch = True
    """Line ends to line feeds, blanks off both ends of lines, runs of blanks to one, at most one empty line in a row.
    In code only the line ends, in instructions also the blanks before them."""
    boilerplate: Switch = True
    """Remove lines of web pages that are no text: cookie notices, menus, social buttons, copyright, JavaScript. Not for
    code and instructions."""
    repeated_lines: CountOrZero = 3
    """Keep so many copies of a line within a document, 0 for all; lines of less than 12 bytes do not count. Only for
    text that stands alone."""


class Thresholds(Section):
    """Limits of stage `filters`.

    One that is absent has a default (`megatron/corpus/filtering/limits.py`) or, where there is none, does not apply. 1
    switches off a largest share, 0 a smallest one.
    """

    min_characters: CountOrZero | None = None
    """Fewest characters."""
    max_characters: Count | None = None
    """Most characters."""
    min_bytes: CountOrZero | None = None
    """Fewest UTF-8 bytes."""
    max_bytes: Count | None = None
    """Most UTF-8 bytes."""
    max_character_run: Count | None = None
    """Longest run of one character that is no white space."""
    max_character_share: Fraction | None = None
    """Largest share of the most frequent character that is no white space, in texts of 100 characters and more."""
    max_repeated_lines: Fraction | None = None
    """Largest share of the characters that lie in lines that came before, in texts of 4 lines and more."""
    max_repeated_ngrams: Fraction | None = None
    """Largest share of the characters that lie in n-grams of characters that came before."""
    ngram_characters: Count | None = None
    """Characters of these n-grams; fewer where a character is a syllable or a word."""
    min_script: Fraction | None = None
    """Smallest share of the characters of any script that are of the label's script."""
    max_punctuation: Fraction | None = None
    """Largest share of punctuation and symbols among the characters that are no white space."""
    max_digits: Fraction | None = None
    """Largest share of digits among the characters that are no white space."""
    max_urls: Fraction | None = None
    """Largest share of the characters that are part of a URL."""
    max_listed_words: Fraction | None = None
    """Largest share of words that stand in the language's word list; needs `word_lists`."""
    max_perplexity: Positive | None = None
    """Largest perplexity under the language's model; needs `perplexity_models`."""
    min_language_score: Fraction | None = None
    """Smallest score of the label under the fastText model; needs `language_model`."""


class FiltersConfig(Section):
    """Stage `filters`: which documents are kept.

    Limits of a language win over those of its script, and those over `limits`.
    """

    limits: Thresholds = Field(default_factory=Thresholds)
    """Limits for all text but code."""
    scripts: dict[Text, Thresholds] = Field(default_factory=dict)
    """Limits of one script, by its ISO 15924 code."""
    languages: dict[Text, Thresholds] = Field(default_factory=dict)
    """Limits of one corpus code, `xxx_Ssss`."""
    sources: dict[SourceName, Thresholds] = Field(default_factory=dict)
    """Limits of one source, such as `code`; they win over all others."""
    language_model: Text | None = None
    """A fastText model for language identification; its labels are mapped as the documents' codes are."""
    word_lists: Text | None = None
    """Folder of word lists, `<xxx_Ssss>.txt` or `<xxx>.txt`, one word or phrase a line."""
    perplexity_models: Text | None = None
    """Folder of n-gram models, `<xxx_Ssss>.arpa`, `.bin` or `.klm` (KenLM), over words or, where the file's name has
    `.chars` before its ending, over characters."""


class DedupConfig(Section):
    """Stage `dedup`: of texts that are equal or nearly so only the first is kept."""

    exact: Switch = True
    """Leave out texts that are equal but for case, white space and invisible characters."""
    near: Switch = True
    """Leave out texts that share most of their n-grams (MinHash LSH); texts of less than about 12 words never."""
    paragraphs: Switch = False
    """Before that, remove paragraphs that came before in the same language."""
    min_paragraph_characters: Count = 60
    """Shorter paragraphs are never removed. A paragraph is a line."""
    scope: Annotated[Literal["language", "corpus"], AnyCase()] = "language"
    """Compare all text of one language in one script, whatever its source, or each corpus with itself."""
    bands: Count = 14
    """Bands of the signature: texts that agree in all hashes of one band are near-duplicates."""
    rows: Count = 8
    """Hashes of a band. Texts with Jaccard similarity s are found with probability 1 - (1 - s^rows)^bands."""
    ngram_characters: Count = 12
    """Letters and digits of the n-grams that are compared; blanks and punctuation do not count. Longer ones find fewer
    copies with scattered changes."""
    script_ngram_characters: dict[Text, Count] = Field(default_factory=dict)
    """The same for one script (ISO 15924), where a character is a syllable or a word: `{Hani: 5}`. The defaults are
    those of `megatron/corpus/dedup/ngrams.py`."""


class SplitConfig(Section):
    """Stage `split`: what is held out of training."""

    valid_bytes: CountOrZero = 16384
    """Text of every corpus to hold out for validation, at least, as far as `max_fraction` allows; 0 for none."""
    valid_bytes_for: dict[Text, CountOrZero] = Field(default_factory=dict)
    """The same for some: `{eng_Latn: 262144, code: 262144}`. By the name of a corpus, its code or its source; the name
    counts before the code, and the code before the source. Give more to what must not be forgotten."""
    test_bytes: CountOrZero = 0
    """Text of every corpus to hold out for a test, likewise."""
    max_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Hold out about this share of a corpus at the most, for each of the two."""
    near_held_out: Fraction | None = 0.5
    """Leave documents out of training that share this part of their n-grams with held-out text of the same language;
    absent (null): do not compare."""
    key: Seed = 0x5EED
    """Key of the hash that chooses."""


class ParallelConfig(Section):
    """Stage `parallel`: sentence pairs become documents."""

    pairs_per_document: Count = 10
    """Pairs that make one document."""
    template: Text = "tagged"
    r"""`tagged` marks every sentence with its code, `translation` with the name of its language after a line that asks
    for a translation, `plain` not at all, and `code-switched` takes one side of every pair. Or a template of your own
    for each pair, with `{source}`, `{target}` and any of `{source_code}`, `{target_code}`, `{source_name}`,
    `{target_name}`; `\n` is a line feed."""
    header: str | None = None
    """Text before the pairs, with the placeholders of codes and names; the template's own when absent."""
    separator: str | None = None
    """What stands between pairs; the template's own when absent, and a line feed for one of yours."""
    direction: Annotated[Literal["both", "forward", "backward"], AnyCase()] = "both"
    """Which side comes first; `both` draws it for every document by a hash of its text."""
    seed: Seed = 0
    """Key of the hash that draws."""
    max_length_ratio: Positive = 3.0
    """How many times as long one side may be as the other. Lengths are in characters of English here and below: what
    takes 27 characters in Chinese takes 100 in English."""
    min_characters: CountOrZero = 3
    """Fewest characters of a side."""
    max_characters: Count = 2000
    """Most characters of a side."""
    max_overlap: Fraction = 0.9
    """Largest share of the words of the shorter side that the other has too, where both are in one script."""
    min_script: Fraction = 0.5
    """Smallest share of a side's letters that are of its label's script."""
    same_numbers: Switch = False
    """Leave out pairs whose numbers differ; languages that write them in words or in 12 hours lose much."""


class InstructionsConfig(Section):
    """How instructions become text, when they are read."""

    template: Text = "plain"
    r"""`plain`, `chatml`, `alpaca`, or a template of your own: with `{role}` and `{content}` for each message, or with
    `{prompt}`, `{response}` and perhaps `{system}` for each turn. `\n` is a line feed."""
    separator: str | None = None
    """What stands between messages or turns; the template's own when absent, and an empty line for those of yours."""


class TokenizerConfig(Section):
    """One tokenizer, and where its shards go."""

    output: Text
    """Folder of the shards, inside the output folder."""
    tokenizer_type: Text
    """`SPMTokenizer`, `HFTokenizer` or `TiktokenTokenizer`."""
    vocab_file: Text
    """Its file."""
    eod_token: Text | None = None
    """The token that ends documents, instead of the tokenizer's own."""
    prepend_bos: Switch = True
    """Begin every document with the beginning-of-text id."""
    fast: Switch = False
    """Encode with gigatoken, and check samples against the tokenizer itself."""


class CorpusConfig(Section):
    """Everything that `tools/corpus.py` may be told."""

    inputs: Inputs
    """Where raw text comes from; where texts are equal, the one of the earlier input is kept."""
    output: Text
    """Folder of everything that is made."""
    read: ReadConfig = Field(default_factory=ReadConfig)
    languages: LanguagesConfig = Field(default_factory=LanguagesConfig)
    script: ScriptConfig = Field(default_factory=ScriptConfig)
    clean: CleanConfig = Field(default_factory=CleanConfig)
    filters: FiltersConfig = Field(default_factory=FiltersConfig)
    dedup: DedupConfig = Field(default_factory=DedupConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    parallel: ParallelConfig = Field(default_factory=ParallelConfig)
    instructions: InstructionsConfig = Field(default_factory=InstructionsConfig)
    tokenise: Annotated[tuple[TokenizerConfig, ...], BeforeValidator(as_tuple)] = ()
    """Tokenizers; without one the pipeline ends with text."""
    tier_unit: Annotated[Literal["words", "tokens", "bytes"], AnyCase()] = "words"
    """Unit of the tiers that stage `stats` proposes."""
    workers: Count = 1
    """Processes on this machine."""
    explain: CountOrZero = 3
    """Examples to keep of what each rule dropped or changed, for each piece of text."""
