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
    r"|(not|never|n't|n’t|avoid|without|instead of|rather than) (\w+ ){0,3}"
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
    r"|here(’|')s how|here is how|(called|written|said|used) (like|as)|n't|n’t|not|never)\b"
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
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|\n\s*\n")
_QUOTES = frozenset("\"'“”‘’«»(`")
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
    last = sentences[-1]
    if _SHOWN.search(last) or (_SHOWN_MILDLY.search(last) and not _MEANT.search(last)):
        return True
    return len(sentences) > 1 and bool(_SHOWN.search(sentences[-2])) and not _MEANT.search(last)


def is_shown_behind(behind: str) -> bool:
    """The words behind it speak of the call as of a thing that was shown."""
    sentences = _sentences(behind)
    return bool(sentences) and bool(_SHOWN_BEHIND.search(sentences[0]))


def is_announced(past: str) -> bool:
    """The words before it say that the model now acts; asked for where the text itself has no mark of a call."""
    sentences = _sentences(past)
    return bool(sentences) and bool(_MEANT.search(sentences[-1])) and not is_shown(past)


def _sentences(text: str) -> list[str]:
    return [one for one in _SENTENCE.split(text.strip()) if one.strip()]
