"""What lm-evaluation-harness calls a language in its benchmarks, as a corpus code ``xxx_Ssss``.

Where a benchmark names no variety, the code is that of the one that FLORES-200 has (``arb_Arab``, ``npi_Deva``), so
that results of all benchmarks can be joined. XCOPA says whose Quechua its own is: Eastern Apurímac, ``qve``.
"""

from __future__ import annotations

from collections.abc import Mapping

#: ISO 639-1, and the code that stands for it in every benchmark; ``jp`` is XWinograd's own.
_CODES = {
    "ar": "arb_Arab", "bg": "bul_Cyrl", "bn": "ben_Beng", "ca": "cat_Latn", "da": "dan_Latn", "de": "deu_Latn",
    "el": "ell_Grek", "en": "eng_Latn", "es": "spa_Latn", "et": "est_Latn", "eu": "eus_Latn", "fr": "fra_Latn",
    "gu": "guj_Gujr", "hi": "hin_Deva", "hr": "hrv_Latn", "ht": "hat_Latn", "hu": "hun_Latn", "hy": "hye_Armn",
    "id": "ind_Latn", "it": "ita_Latn", "ja": "jpn_Jpan", "jp": "jpn_Jpan", "kn": "kan_Knda", "ml": "mal_Mlym",
    "mr": "mar_Deva", "my": "mya_Mymr", "ne": "npi_Deva", "nl": "nld_Latn", "pt": "por_Latn", "qu": "qve_Latn",
    "ro": "ron_Latn", "ru": "rus_Cyrl", "sk": "slk_Latn", "sr": "srp_Cyrl", "sv": "swe_Latn", "sw": "swh_Latn",
    "ta": "tam_Taml", "te": "tel_Telu", "th": "tha_Thai", "tr": "tur_Latn", "uk": "ukr_Cyrl", "ur": "urd_Arab",
    "vi": "vie_Latn", "zh": "zho_Hans",
}  # fmt: skip


def _languages(keys: str) -> Mapping[str, str]:
    return {_CODES[key]: key for key in keys.split()}


def _same(codes: str) -> Mapping[str, str]:
    return {code: code for code in codes.split()}


#: Corpus code to lm-evaluation-harness's name of the language, for each benchmark.
XNLI = _languages("ar bg de el en es fr hi ru sw th tr ur vi zh")
XCOPA = _languages("et ht id it qu sw ta th tr vi zh")
XSTORYCLOZE = _languages("ar en es eu hi id my ru sw te zh")
XWINOGRAD = _languages("en fr jp pt ru zh")
MGSM = _languages("bn de en es fr ja ru sw te th zh")
ARC = _languages("ar bn ca da de es eu fr gu hi hr hu hy id it kn ml mr ne nl pt ro ru sk sr sv ta te uk vi zh")
BELEBELE = _same(
    "acm_Arab afr_Latn als_Latn amh_Ethi apc_Arab arb_Arab arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng "
    "azj_Latn bam_Latn ben_Beng ben_Latn bod_Tibt bul_Cyrl cat_Latn ceb_Latn ces_Latn ckb_Arab dan_Latn "
    "deu_Latn ell_Grek eng_Latn est_Latn eus_Latn fin_Latn fra_Latn fuv_Latn gaz_Latn grn_Latn guj_Gujr "
    "hat_Latn hau_Latn heb_Hebr hin_Deva hin_Latn hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn "
    "isl_Latn ita_Latn jav_Latn jpn_Jpan kac_Latn kan_Knda kat_Geor kaz_Cyrl kea_Latn khk_Cyrl khm_Khmr "
    "kin_Latn kir_Cyrl kor_Hang lao_Laoo lin_Latn lit_Latn lug_Latn luo_Latn lvs_Latn mal_Mlym mar_Deva "
    "mkd_Cyrl mlt_Latn mri_Latn mya_Mymr nld_Latn nob_Latn npi_Deva npi_Latn nso_Latn nya_Latn ory_Orya "
    "pan_Guru pbt_Arab pes_Arab plt_Latn pol_Latn por_Latn ron_Latn rus_Cyrl shn_Mymr sin_Latn sin_Sinh "
    "slk_Latn slv_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn "
    "swh_Latn tam_Taml tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi tsn_Latn tso_Latn tur_Latn ukr_Cyrl "
    "urd_Arab urd_Latn uzn_Latn vie_Latn war_Latn wol_Latn xho_Latn yor_Latn zho_Hans zho_Hant zsm_Latn "
    "zul_Latn"
)
