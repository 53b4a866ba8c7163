"""Small chat templates, each with one habit of a template that is in wide use."""

from engine.text.template import project_template

_TURN = "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"

TEMPLATES = {
    "project": project_template(),
    # Every assistant turn has a think block; the generation prompt opens it, or supplies the empty one.
    "always thinks": """
{%- for m in messages %}{% if m.role == 'assistant' %}{% set r = m.reasoning_content or '' %}
{{- '<|im_start|>assistant\\n<think>\\n' + r + '\\n</think>\\n\\n' + m.content + '<|im_end|>\\n' }}{% else %}"""
    + _TURN
    + "{% endif %}{% endfor %}"
    + _PROMPT
    + "{{ '<think>\\n' if open_thinking else '<think>\\n\\n</think>\\n\\n' }}{% endif %}",
    # Thoughts stand in the last turn only.
    "drops old thoughts": """
{%- for m in messages %}{% if m.role == 'assistant' and loop.last %}
{{- '<|im_start|>assistant\\n<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' + m.content }}
{{- '<|im_end|>\\n' }}{% else %}"""
    + _TURN
    + "{% endif %}{% endfor %}"
    + _PROMPT
    + "{{ '<think>\\n\\n</think>\\n\\n' if enable_thinking is false }}{% endif %}",
    # A system prompt of its own.
    "default system": "{% if messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\\nBe good.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}" + _TURN + "{% endfor %}" + _PROMPT + "{% endif %}",
    # Begins with a begin-of-text token and takes white space off.
    "begin of text": "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n\\n' + m.content | trim }}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n\\n' }}{% endif %}",
    # The system prompt becomes part of the first user turn; turns must alternate.
    "merges system": """
{%- if messages[0].role == 'system' %}{% set first = messages[0].content + '\\n\\n' %}{% set rest = messages[1:] %}
{%- else %}{% set first = '' %}{% set rest = messages %}{% endif %}
{%- for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}
{%- endif %}{{ '<|im_start|>' + m.role + '\\n' + (first if loop.first else '') + m.content + '<|im_end|>\\n' }}
{%- endfor %}"""
    + _PROMPT
    + "{% endif %}",
    "no end of turn": "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    # The end-of-turn token is followed by more.
    "two ends": "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n<|endoftext|>' }}"
    "{% endfor %}" + _PROMPT + "{% endif %}",
}

CANNOT_MARK = {
    "no generation prompt": "{% for m in messages %}" + _TURN + "{% endfor %}",
    "another header": "{% for m in messages %}" + _TURN + "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>bot\\n' }}{% endif %}",
    "hides what is said": "{% for m in messages %}{{ m.content | length }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
}
