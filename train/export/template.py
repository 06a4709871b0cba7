r"""Template: the rule of dataprep.chat once more, in Jinja, for programs that know nothing of ours.

In:  messages whose content is a text or a list of {type, text} parts (text, python, output). Out: one string with
     specials, the leading <|endoftext|> of every document among them; a tokenizer makes ids of it.
Holds: its ids are those of `chat.prompt_ids`, and without a prompt for the next turn those of `chat.render` less the
       closing end token (a growing conversation's text is then a beginning of the longer one's).
       What our rule leaves out is refused, and so is text that spells a special: in one string nothing could tell
       it from the special itself, and whoever types <|system_start|> would speak as the system.
Differs: text parts that follow each other are encoded together here, apart in training.
"""

import json
from collections.abc import Iterable

_TEMPLATE = """\
{%- set specials = SPECIALS -%}
{%- set state = namespace(next='user', said=false, run='') -%}
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message['role'] not in ['system', 'user', 'assistant'] -%}
    {{- raise_exception('unknown role: a message is of system, user or assistant') -}}
  {%- elif message['role'] == 'system' -%}
    {%- if not loop.first -%}{{- raise_exception('roles do not alternate: system comes first') -}}{%- endif -%}
  {%- elif message['role'] != state.next -%}
    {{- raise_exception('roles do not alternate: user, assistant, user, …') -}}
  {%- else -%}
    {%- set state.next = 'assistant' if message['role'] == 'user' else 'user' -%}
  {%- endif -%}
  {%- if message['content'] is string -%}
    {%- set parts = [{'type': 'text', 'text': message['content']}] -%}
  {%- else -%}
    {%- set parts = message['content'] or [] -%}
  {%- endif -%}
  {%- set state.said = false -%}
  {%- set state.run = '' -%}
  {{- '<|' + message['role'] + '_start|>' -}}
  {%- for part in parts -%}
    {%- set kind = 'output' if part['type'] == 'python_output' else part['type'] -%}
    {%- set text = part['text'] or '' -%}
    {%- if kind not in ['text', 'python', 'output'] -%}
      {{- raise_exception('unknown part: a part is text, python or output') -}}
    {%- elif kind != 'text' and message['role'] != 'assistant' -%}
      {{- raise_exception('tool part outside an assistant turn') -}}
    {%- endif -%}
    {%- set state.run = state.run + text if kind == 'text' else text -%}
    {%- for special in specials -%}
      {%- if special in state.run -%}
        {{- raise_exception('the text spells ' + special + ': such text was never seen as a special') -}}
      {%- endif -%}
    {%- endfor -%}
    {%- if text -%}{%- set state.said = true -%}{%- endif -%}
    {%- if kind == 'text' -%}
      {{- text -}}
    {%- else -%}
      {{- '<|' + kind + '_start|>' + text + '<|' + kind + '_end|>' -}}
      {%- set state.run = '' -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if not state.said -%}{{- raise_exception('empty content') -}}{%- endif -%}
  {{- '<|' + message['role'] + '_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {%- if state.next == 'user' -%}{{- raise_exception('it is not the turn of the assistant') -}}{%- endif -%}
  {{- '<|assistant_start|>' -}}
{%- endif -%}
"""


def chat_template(specials: Iterable[str]) -> str:
    """The template for these specials."""
    return _TEMPLATE.replace("SPECIALS", json.dumps(list(specials)))
