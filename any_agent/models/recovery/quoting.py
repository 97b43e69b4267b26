"""Whether a call in a text is meant, or shown: an example, a quotation, an explanation. In doubt it is shown."""

from __future__ import annotations

import re

PAST_CHARS = 600  # so much of the text before a call is looked at

# Shown whatever else is said.
_SHOWN = re.compile(
    r"\b(for (example|instance)|e\.g|as an example"
    r"|(an?|the|this|these) examples?( of| for)?( an?| the)?( tool| function)? calls?"
    r"|an example\b(?! \w+\.)|examples?\W*$|example(:| of an?\b)|hypothetical\w*|demo\w*|illustrat\w*|pseudo\w*"
    r"|placeholders?|(explain\w*|describe\w*|describing) .{0,20}\b(calls?|formats?|syntax|forms?)"
    r"|(syntax|format|form)( (is|of|as|for)\b.*)?\W*$"
    r"|how (to|you) (call|use|invoke|write) .{0,20}(tool|function|it)\b|you asked me to (write|show)"
    r"|(not|never|\w+n['’]t|cannot|avoid|without|instead of|rather than) (\w+ ){0,3}"
    r"(call|run|execute|invoke|do|send|say)\w*( \w+){0,3}\W*$"
    r"|(says?|said|reads?|contains?|contained|quotes?|quoted|wrote|states?)\W*$)",
    re.I,
)
# Shown, unless the sentence announces an action.
_SHOWN_MILDLY = re.compile(
    r"\b(examples?|samples?|typical\w*|snippets?|syntax|formats?|formatted|would|could|might"
    r"|looks? (like|as)|as follows"
    r"|like (this|so)|explain\w*|describe\w*|describing|you asked|below is|this is what|instead"
    r"|(shows?|showed|shown)\W*$"
    r"|(already|previously|earlier|just|was|were) (called|used|ran|run|tried|sent|made|executed|invoked)"
    r"|(last|previous|earlier|prior|wrong|incorrect|invalid|failed) (tool |function )?(call|request|attempt)\w*"
    r"|you (can|have to|need to|must|should|may|'d|type|write|send|call|use)|how (it|this|that) (is|was|works|looks)"
    r"|here(’|')s how|here is how|(called|written|said|used) (like|as)|not|never)\b"
    r"|^\W*(if|imagine|suppose|a|an|any|every|each|this is an?|that is an?|below|pretend)\b",
    re.I,
)
_SHOWN_BEHIND = re.compile(
    r"\b(examples?|syntax|hypothetical\w*|above|as shown|placeholders?"
    r"|(this|that|it|which) (is|was) (how|what|the format)"
    r"|(this|that|it|which|you|i|we) would|(do|don't|does|did|should|must|will) not (run|call|execute|send|use))\b",
    re.I,
)
_MEANT = re.compile(
    r"\b(i(’|')ll|i will|i(’|')m going to|i am going to|let me|let(’|')s|i need to|i must|i should|calling|invoking)\b"
    r"|^\W*(using|checking|searching|fetching|getting|looking|running|retrieving|reading)\b",
    re.I,
)
# What the model does not do, or was told by others to do; and what it only gives back.
_REFUSED = re.compile(
    r"\b(refus\w*|declin\w*|dangerous|unsafe|harmful|malicious|suspicious|inject\w*|attack\w*|forbid\w*"
    r"|(\w+n['’]t|not|cannot|never) (\w+ ){0,2}(call|run|execute|invoke|do|send|follow|obey|make|use)\w*"
    r"|(?<!user )(?<!you )(asks?|asked|tells?|told|wants?|wanted|instruct\w*) (me|us|to|the \w+ to)"
    r"|(file|page|document|documentation|docs|readme|e-?mail|message|log|output|site|text|results?|instructions?|notes?|tool"
    r"|prompt|comment)\W{0,2} (says?|said|tells?|told|shows?|wants?|asks?|reads?)"
    r"|quot\w+|cit(e|es|ing)|verbatim|word for word|contain(s|ed)|follows)\b",
    re.I,
)
# Weaker than _MEANT: enough for a colon behind it, not against words that show.
_ACTS = re.compile(
    r"\b(i (can|need|have|want|am|must) (?!show)\w+|i(’|')(m \w+|d like)|we (should|need|will|can|must|have)"
    r"|here(’|')?s? ?(is|are|comes|come)? (the|my|your) (tool |function )?calls?)\b"
    r"|^\W*(sure|ok|okay|certainly|of course|alright|got it|one moment|right away|gladly|first|next|then|now)\b",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？।])|\n\s*\n")
_QUOTES = frozenset("\"'“”‘’«»‹›„‚「『《〈(（`")
_QUOTED_LINE = re.compile(r"\s*(>|\||#|//|\$|\*>)")


def line_before(past: str) -> str:
    """The part of the current line that was already said."""
    return past.rpartition("\n")[2]


def is_at_line_start(past: str) -> bool:
    return not line_before(past).strip()


def is_in_inline_code(past: str) -> bool:
    return line_before(past).count("`") % 2 == 1


def is_quoted(past: str) -> bool:
    """Right behind a quotation mark, or in a line of a quotation or comment."""
    return past[-1:] in _QUOTES or bool(_QUOTED_LINE.match(line_before(past)))


def is_shown(past: str) -> bool:
    """The words before it introduce an example, not an action."""
    sentences = _sentences(past)
    if not sentences:
        return False
    from .languages import is_example

    last = sentences[-1]
    if _SHOWN.search(last) or is_example(last) or (_SHOWN_MILDLY.search(last) and not _MEANT.search(last)):
        return True
    before = sentences[-2] if len(sentences) > 1 else ""
    return bool(_SHOWN.search(before) or is_example(before)) and not _MEANT.search(last)


def is_open(past: str) -> bool:
    """The words before it do not tell whether the call is meant: a colon that may as well introduce a quotation."""
    sentences = _sentences(past)
    if not sentences:
        return False
    from .languages import is_english, leaves_open

    last = sentences[-1]
    if not is_english(last):
        return leaves_open(last)
    acts = _MEANT.search(last) or _ACTS.search(last)
    return bool(_REFUSED.search(last)) or (last.rstrip().endswith(":") and not acts)


def is_shown_behind(behind: str, *, talks: bool = False) -> bool:
    """The words behind it speak of the call as of a thing that was shown.

    Args:
        talks: models of this dialect always say something behind a call.
    """
    sentences = _sentences(behind)
    if not sentences or _SHOWN_BEHIND.search(sentences[0]):
        return bool(sentences)
    from .languages import leaves_open_behind

    return leaves_open_behind(behind) and not talks


def is_announced(past: str) -> bool:
    """The words before it say that the model now acts; asked for where the text itself has no mark of a call."""
    sentences = _sentences(past)
    return bool(sentences) and bool(_MEANT.search(sentences[-1])) and not is_shown(past) and not is_open(past)


def _sentences(text: str) -> list[str]:
    return [one for one in _SENTENCE.split(text.strip()) if one.strip()]
