"""A known secret is masked in the forms that it takes within other texts, and as the key of a mapping."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from pf_mlflow.records.masking import MASK, Secrets

SECRETS = ('hT7/q+9z"Lw2\\Xe4Rb', "line1-Qz8sT\nline2-Rw9uV\nline3", "pä ss/Wört-77x")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "form",
    [
        str,
        json.dumps,
        lambda secret: json.dumps(secret, ensure_ascii=False),
        lambda secret: json.dumps(json.dumps(secret)),
        repr,
        lambda secret: quote(secret, safe=""),
        quote,
        quote_plus,
    ],
)
def test_a_known_secret_is_masked_in_each_form(secret: str, form: Callable[[str], str]) -> None:
    text = f"before {form(secret)} after"
    assert Secrets([secret]).masked(text).replace('\\"', "").replace('"', "").replace("'", "") == f"before {MASK} after"


def test_a_secret_is_masked_as_a_key_of_a_mapping() -> None:
    assert Secrets(SECRETS).masked_value({"of": {SECRETS[0]: 1, 7: "seven"}}) == {"of": {MASK: 1, 7: "seven"}}
