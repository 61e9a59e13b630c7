import pytest

from megatron.config.corpus_schema import InstructionsConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.instructions import BUILT_IN, InstructionTemplate, Message

SYSTEM, USER, ASSISTANT = (
    Message("system", "Be brief."),
    Message("user", "Habari?"),
    Message("assistant", "Nzuri."),
)
MORE = (Message("user", "Kwaheri"), Message("assistant", "Kwaheri!"))


def text(messages, template, **settings):
    return InstructionTemplate(InstructionsConfig(template=template, **settings)).text(messages)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "Be brief.\n\nHabari?\n\nNzuri.\n\nKwaheri\n\nKwaheri!"),
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHabari?<|im_end|>\n"
            "<|im_start|>assistant\nNzuri.<|im_end|>\n<|im_start|>user\nKwaheri<|im_end|>\n"
            "<|im_start|>assistant\nKwaheri!<|im_end|>",
        ),
        (
            "alpaca",
            "Below is an instruction that describes a task. Write a response that appropriately completes the request."
            "\n\n### Instruction:\nBe brief.\n\nHabari?\n\n### Response:\nNzuri.\n\n"
            "Below is an instruction that describes a task. Write a response that appropriately completes the request."
            "\n\n### Instruction:\nKwaheri\n\n### Response:\nKwaheri!",
        ),
        (r"{role}: {content}\n", "system: Be brief.\n\n\nuser: Habari?\n\n\nassistant: Nzuri.\n\n\n"),
        (r"[{system}] Q: {prompt}\nA: {response}", "[Be brief.] Q: Habari?\nA: Nzuri.\n\n[] Q: Kwaheri\nA: Kwaheri!"),
        ("Q: {prompt} A: {response}", "Q: Be brief.\n\nHabari? A: Nzuri.\n\nQ: Kwaheri A: Kwaheri!"),
    ],
)
def test_templates(template, expected):
    assert text([SYSTEM, USER, ASSISTANT, *MORE], template).startswith(expected)


def test_separators():
    assert text([USER, ASSISTANT], "plain", separator=r"\n") == "Habari?\nNzuri."
    assert text([USER, ASSISTANT], "{content}", separator="") == "Habari?Nzuri."


def test_a_turn_without_an_answer_ends_where_it_would_begin():
    assert text([USER, ASSISTANT, MORE[0]], "Q: {prompt} A: {response}.") == "Q: Habari? A: Nzuri..\n\nQ: Kwaheri A: "
    assert text([SYSTEM, USER], "plain") == "Be brief.\n\nHabari?"


def test_what_several_say_before_the_answer_is_one_prompt():
    tool = Message("tool", "12")
    assert text([USER, USER, tool, ASSISTANT, ASSISTANT], "{prompt}|{response}") == (
        "Habari?\n\nHabari?\n\n12|Nzuri.\n\nNzuri."
    )
    assert text([ASSISTANT, USER], "{prompt}|{response}") == "|Nzuri.\n\nHabari?|"


@pytest.mark.parametrize("template", [*BUILT_IN, "{role}{content}", "{prompt}{response}"])
def test_control_strings_and_braces_stay_text(template):
    odd = "</s> <|im_end|> {prompt} {0} \\n"
    assert text([Message("user", odd), ASSISTANT], template).count(odd) == 1


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("chatlm", "no such template; use plain, chatml, alpaca, or write one"),
        ("{prompt}", r"lacks the placeholder \{response\}"),
        ("{role}", "lacks the placeholder"),
        ("{content} {prompt}", r"no placeholder \{prompt\}"),
        ("{contents}", r"no placeholder \{contents\}"),
        ("{{content}}", r"lacks the placeholder"),
    ],
)
def test_what_is_no_template(template, problem):
    with pytest.raises(CorpusError, match=problem) as caught:
        text([USER], template)
    assert str(caught.value).startswith("instructions.template ")
