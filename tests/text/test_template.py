import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from engine.errors import UserError
from engine.text.rendering import MAX_OUTPUT
from engine.text.template import ChatTemplate, RenderRequest, TemplateFailure, project_template

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city <today> & 今天",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    {"name": "clock"},
]

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "北京", "days": [1, 2]}}}

CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi 'there' <b>"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2", "reasoning_content": "one and one"},
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "  spaced \n"},
    ],
    [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL, {"name": "clock", "arguments": "{}"}]},
        {"role": "tool", "content": "sunny"},
        {"role": "tool", "content": "12:00"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": "Sunny.", "reasoning_content": "done"},
        {"role": "system", "content": "Now be long."},
        {"role": "user", "content": "<think>literal</think>"},
    ],
]

TEMPLATES = {
    "project": project_template(),
    "generation": """
        {%- for message in messages %}
            {%- if message.role == 'assistant' %}
                {%- generation %}
                {%- set shout = message.content | upper %}
{{ '[' + message.content + ']' + shout }}
                {% endgeneration %}
            {%- else %}
                {{- message['role'] ~ ': ' ~ message['content'] | trim }}
            {%- endif %}
            {{ shout }}
        {% endfor %}
    """,
    "loops": """{{ bos_token }}{% for m in messages %}
  {% if loop.index0 is odd %}{% continue %}{% endif %}
  {% if loop.index > 4 %}{% break %}{% endif %}
  {{ m.content | tojson }} {{ m.tool_calls | default([m.role]) | tojson(indent=2) }}
{% endfor %}{{ tools | tojson(separators=(',', ':')) }}{% if documents is none %}none{% endif %}
{% if extra is defined and extra %}{{ extra }}{% endif %}{{ eos_token }}{{ missing_token }}
{% if add_generation_prompt %}go{% endif %}
""",
    "namespace": """{% set ns = namespace(found=false, text='') %}{% for m in messages[::-1] %}
{% if not ns.found and m.role == 'user' %}{% set ns.found = true %}{% set ns.text = m.content %}{% endif %}
{% endfor %}{{ ns.text.split('?')[0].strip() }}{{ messages | selectattr('role', 'equalto', 'tool') | list | length }}
""",
}

SPECIAL = {"bos_token": "<s>", "eos_token": "<|im_end|>"}


@pytest.fixture
def make() -> Iterator[Any]:
    made: list[ChatTemplate] = []

    def build(source: str) -> ChatTemplate:
        made.append(ChatTemplate(source, SPECIAL))
        return made[-1]

    yield build
    for template in made:
        template.close()


def ask(template: ChatTemplate, *messages: dict[str, Any]) -> str:
    return template.render([RenderRequest(list(messages) or [{"role": "user", "content": "x"}])])[0]


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_equals_transformers(make: Any, name: str) -> None:
    template = make(TEMPLATES[name])
    assert template.known == (name == "project")
    for messages in CONVERSATIONS:
        requests = [
            RenderRequest(messages, tools, prompt, options)
            for tools in (None, TOOLS)
            for prompt in (False, True)
            for options in ({}, {"enable_thinking": True, "extra": "ü"}, {"enable_thinking": False})
        ]
        expected = [
            render_jinja_template(
                [each.messages],
                tools=each.tools,
                chat_template=template.source,
                add_generation_prompt=each.add_generation_prompt,
                **SPECIAL,
                **each.options,
            )[0][0]
            for each in requests
        ]
        assert template.render(requests) == expected


def test_project_template_by_hand(make: Any) -> None:
    template = make(project_template())
    system, user, answer = (CONVERSATIONS[1][index] for index in (0, 1, 2))
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    thought = "<think>\none and one\n</think>\n\n"
    prompts = [RenderRequest([system, user], None, True, options) for options in ({}, {"enable_thinking": True})]
    assert template.render(prompts) == [text, text + "<think>\n"]
    assert ask(template, system, user, answer) == text + thought + "2<|im_end|>\n"
    assert ask(template, user) == "<|im_start|>user\n1+1?<|im_end|>\n"


def test_project_template_writes_tool_calls(make: Any) -> None:
    texts = make(project_template()).render([RenderRequest(CONVERSATIONS[2], TOOLS)])[0].split("<|im_start|>")
    assert texts[1].startswith("system\nUse tools.\n\n# Tools\n")
    assert (
        '<tools>\n{"type": "function", "function": {"name": "weather", "description": "The weather in a city'
        in texts[1]
    )
    assert '\n{"name": "clock"}\n</tools>\n' in texts[1]
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "北京", "days": [1, 2]}}\n</tool_call>'
    assert (
        texts[3]
        == f'assistant\nI look.\n{call}\n<tool_call>\n{{"name": "clock", "arguments": {{}}}}\n</tool_call><|im_end|>\n'
    )
    assert texts[4] == "user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
    assert texts[6] == f"assistant\n{call}<|im_end|>\n"


@pytest.mark.parametrize("tools", [None, TOOLS])
def test_project_template_never_rewrites_history(make: Any, tools: Any) -> None:
    template = make(project_template())
    for messages in CONVERSATIONS:
        counts = range(1, len(messages) + 1)
        texts = template.render([RenderRequest(messages[:count], tools) for count in counts])
        for shorter, longer in itertools.pairwise(texts):
            assert longer.startswith(shorter) and longer != shorter
        for count, message in enumerate(messages):
            if message["role"] == "assistant" and count:
                options = {"enable_thinking": bool(message.get("reasoning_content"))}
                prompt = template.render([RenderRequest(messages[:count], tools, True, options)])[0]
                assert texts[count].startswith(prompt)


def test_project_template_refuses_unknown_roles(make: Any) -> None:
    with pytest.raises(TemplateFailure, match="unknown role: critic"):
        ask(make(project_template()), {"role": "critic", "content": "boo"})


def test_digest_is_of_the_source(make: Any) -> None:
    assert make("ä").digest == hashlib.sha256("ä".encode()).hexdigest()
    assert not make(project_template() + " ").known


def test_the_date_is_frozen(make: Any) -> None:
    assert ask(make("{{ strftime_now('%Y-%m-%d %H:%M') }}")) == "2025-01-01 00:00"


def test_a_template_s_own_refusal_is_told(make: Any) -> None:
    with pytest.raises(TemplateFailure, match="no user") as caught:
        ask(make("{{ raise_exception('no ' + messages[0].role) }}"))
    assert isinstance(caught.value, UserError) and "TemplateError: no user" in caught.value.reason


def test_a_failing_row_leaves_the_worker_up(make: Any) -> None:
    template = make("{{ messages[0].content + '!' }}")
    assert ask(template) == "x!"
    worker = template._worker
    with pytest.raises(TemplateFailure, match="TypeError"):
        ask(template, {"role": "user", "content": None})
    assert ask(template, {"role": "user", "content": "\ud800 lone"}) == "\ud800 lone!"
    assert template._worker is worker


BOMBS = {
    "nested loops": "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
    "a string": "{{ messages[0].content * 3000000000 }}",
    "a list": "{% set x = [messages[0].content] * 1000000000 %}",
    "a power": "{{ (messages | length + 8) ** 9999999999 }}",
    "doubling": "{% set ns = namespace(t='xx') %}{% for i in range(90) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "long output": "{% for a in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_hangs_and_bombs_fail_the_row_and_the_next_one_renders(make: Any, bomb: str) -> None:
    template = make("{% if messages | length == 1 %}" + BOMBS[bomb] + "{% endif %}fine")
    with pytest.raises(TemplateFailure):
        ask(template)
    two = [{"role": "user", "content": "x"}] * 2
    assert ask(template, *two) == "fine"


def test_a_bomb_in_a_constant_is_stopped_while_compiling(make: Any) -> None:
    template = make("{{ 'x' * 3000000000 }}")
    for _ in range(2):
        with pytest.raises(TemplateFailure):
            ask(template)


def test_output_is_bounded(make: Any) -> None:
    template = make("{% for a in range(messages | length) %}{{ 'x' * " + str(MAX_OUTPUT // 2) + " }}{% endfor %}")
    message = {"role": "user", "content": "x"}
    assert len(ask(template, message, message)) == MAX_OUTPUT
    with pytest.raises(TemplateFailure, match="more than"):
        ask(template, message, message, message)


@pytest.mark.parametrize(
    "payload",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__self__ }}",
        "{{ messages.append(1) }}",
        "{{ ''['__cl' + 'ass__'] }}{{ ''|attr('__class__') }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_sandbox_escapes_are_blocked(make: Any, payload: str) -> None:
    template = make(payload)
    try:
        assert ask(template) == ""
    except TemplateFailure as failure:
        assert "Error" in failure.reason


def test_a_template_that_cannot_be_compiled_is_explained_each_time(make: Any) -> None:
    template = make("{% for %}")
    for _ in range(2):
        with pytest.raises(TemplateFailure, match="TemplateSyntaxError"):
            ask(template)


def test_a_killed_worker_costs_one_row(make: Any) -> None:
    template = make("{{ messages[0].content }}")
    assert ask(template) == "x"
    worker = template._worker
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(TemplateFailure, match="died"):
        ask(template)
    assert ask(template) == "x"
    assert template._worker is not worker


def test_close_ends_the_worker_and_render_starts_another(make: Any) -> None:
    template = make("{{ messages[0].content }}")
    template.close()
    assert ask(template) == "x"
    process = template._worker._process
    template.close()
    assert process.returncode is not None
    assert ask(template) == "x"


def test_a_forgotten_template_leaves_no_process() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {})
    ask(template)
    process = template._worker._process
    del template
    assert process.wait(timeout=20) is not None


def test_threads_share_one_worker(make: Any) -> None:
    template = make("{{ messages[0].content }}")
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: ask(template, {"role": "user", "content": str(n)}), range(200)))
    assert texts == [str(n) for n in range(200)]


def test_what_is_not_json_fails_the_row(make: Any) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for content in (object(), deep):
        with pytest.raises(TemplateFailure):
            ask(make("{{ messages }}"), {"role": "user", "content": content})


def test_no_worker_is_started_for_a_known_template(make: Any) -> None:
    template = make(project_template())
    ask(template)
    assert template._worker is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_takes_its_own_worker(make: Any) -> None:
    template = make("{{ messages[0].content }}")
    assert ask(template) == "x"
    worker = template._worker
    child = os.fork()
    if child == 0:
        mine = ask(template, {"role": "user", "content": "child"})
        os._exit(0 if mine == "child" and template._worker is not worker else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ask(template) == "x"
    assert template._worker is worker


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_the_worker_ends_with_its_parent() -> None:
    code = (
        "import time; from engine.text.template import *;"
        "t = ChatTemplate('{{ messages[0].role }}', {}); t.render([RenderRequest([{'role': 'u'}])]);"
        "print(t._worker._process.pid, flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, signal.SIGINT)  # Ctrl-C goes to the whole group; the worker leaves it to its parent
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if not _runs(pid):
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # an orphan may wait as a zombie for an init that never looks
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")
