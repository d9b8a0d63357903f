"""Who makes models: academia, industry, both together, or others, by the names of organisations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pomona.scale.tables.columns import Published

Sector = Literal["academia", "industry", "both", "other"]
# Words that universities and schools are called by, in the languages that tables write them in.
# What a table cuts off at some width still begins like them.
_ACADEMIA = re.compile(
    r"universi|institute? of (advanced |science|technology)|college|school|polytechni|"
    r"\b(eth|epfl|mit|cmu|kaist|caltech|ucl|nyu|ucla|ucsd|uc|cuhk|hkust|kaust|mbzuai|idsia|mila|"
    r"technion|tu|supsi)\b|école|ecole|academy of sciences|hochschule|academia sinica|stanford|"
    r"\boxford|cambridge|princeton|harvard|tsinghua|weizmann|institute for advanced study",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"eleutherai|laion|bigscience|bigcode|allen institute|\bai2\b|baai|academy of artificial|"
    r"inria|cnrs|government|ministry|army|navy|\bnational|max planck|fraunhofer|turing institute|"
    r"foundation|technology innovation institute|\btii\b|shanghai ai|peng cheng|rand corporation|"
    r"\bsri\b|ieee|consortium|open ?source|llm360",
    re.IGNORECASE,
)
_INDUSTRY = re.compile(
    r"google|deepmind|openai|meta\b|meta ai|facebook|microsoft|nvidia|ibm|baidu|alibaba|tencent|"
    r"amazon|apple|anthropic|\bxai\b|mistral|deepseek|bytedance|huawei|samsung|salesforce|at&t|"
    r"bell lab|cohere|stability|01\.ai|zhipu|z\.ai|moonshot|minimax|naver|kakao|sk telecom|"
    r"lg ai|corporation|telecom|upstage|nc ai|ant group|xiaomi|megvii|sensetime|yandex|sber|adobe|"
    r"\bintel\b|qualcomm|\buber\b|twitter|\bsnap\b|netflix|runway|midjourney|databricks|mosaicml|"
    r"ai21|inflection|character|adept|cerebras|graphcore|hugging ?face|together|baichuan|iflytek|"
    r"kuaishou|meituan|jd\.com|siemens|bosch|toyota|fujitsu|hitachi|nec\b|ntt|nhk|philips|nokia|"
    r"ericsson|vicarious|maluuba|element ai|preferred networks|sony|rinna|recursion|insilico|"
    r"evolutionaryscale|ginkgo|wayve|tesla|waymo|\binc\b|\bcorp|\bltd|\bllc|gmbh|technologies|"
    r"systems|\.ai\b|\.com\b|labs\b",
    re.IGNORECASE,
)


def sector_of(organisation: str | None, sector: str | None = None) -> Sector | None:
    """The sector of organisations, which commas separate: of academia and industry together it is
    both. What a column of sectors says goes first. None where no name is known.
    """
    if sector and {"academia", "industry"} <= set(re.findall(r"[a-z]+", sector.lower())):
        return "both"
    found: set[str] = set()
    for told in (sector or organisation or "").split(","):
        if kind := _one(told):
            found.add(kind)
    if {"academia", "industry"} <= found:
        return "both"
    for kind in ("academia", "industry", "other"):
        if kind in found:
            return kind
    return None


def _one(name: str) -> Sector | None:
    lower = name.strip().lower()
    if lower in ("academia", "industry"):
        return "academia" if lower == "academia" else "industry"
    if lower.startswith(("research collective", "government")):
        return "other"
    if "universi" not in lower and _OTHER.search(name):
        return "other"
    if _ACADEMIA.search(name):
        return "academia"
    return "industry" if _INDUSTRY.search(name) else None


def sectors_of(published: Published) -> list[Sector | None]:
    """The sector of each row."""
    nothing: Sequence[str | None] = [None] * len(published)
    organisations = published.texts.get("organisation", nothing)
    sectors = published.texts.get("sector", nothing)
    return [sector_of(o, s) for o, s in zip(organisations, sectors, strict=True)]
