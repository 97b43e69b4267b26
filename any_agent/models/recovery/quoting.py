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
# It asks before it acts, takes back what it was about to do, or reads out what others said.
_ASKS = re.compile(
    r"\b(should|shall|may|can|could|want|like|ok|okay)\b[^.!]*\?\W*$"
    r"|\b(your (approval|permission|consent|confirmation)|(please|until you|once you|if you) (confirm|approve|agree)\w*"
    r"|if you (want|wish|like|agree|approve|confirm)\w*|for you to (copy|run|use|paste|call)|(show|read) (it to )?you"
    r"|(must|should|shall|will) not|(mustn|shouldn|won)['’]t|no,? wait|on second thought|never ?mind|transcript"
    r"|(already|previously) (i )?(did|done|ran|run|made|called|executed|used)"
    r"|repeat (your|the) (message|words|text|prompt)"
    r"|(has|have|holds|is) (this|the following) (line|text|call)?|there (is|was|are) (this|the following)"
    r"|(see|found|find) .{0,40}(this|the following|a) (tool |function )?call)\b"
    r"|^\W*(cancel|stop|wait|let me explain)\W*$|^\W*q:",
    re.I,
)
_ASKS_BEHIND = re.compile(
    r"^\W*((shall|should|may|can|could) i|(do|would) you (want|like)|is (that|this|it) (okay|ok|right|fine)|oops)\b"
    r"|\b(let me know if|please confirm|your (approval|permission|consent|confirmation)"
    r"|if you (want|agree|approve|confirm)|(do not|don['’]t|never) (run|execute|call|use|do|send) (it|this|that)"
    r"|i (won['’]t|will not|should not|shouldn['’]t|must not)|(cancel|ignore|forget|scratch) (that|this|it)|never ?mind"
    r"|illustrat\w*|copy and paste|you (can|may|could) (run|use|call|copy)"
    r"|(that|this|it)(['’]s| is) wrong|not executed|this is the call)\b",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？।])|\n\s*\n")
_QUOTES = frozenset("\"'“”‘’«»‹›„‚「『《〈(（`")
_QUOTED_LINE = re.compile(r"\s*(>|\||#|//|\$|\*>)")


# A tag in front, or at the start of a line, that frames what follows: code and quotations show it, others may.
_TAG = re.compile(r"(?:^|(?<=\n))[ \t]*<([A-Za-z][\w-]*)(?:\s[^<>\n]*)?>|<([A-Za-z][\w-]*)(?:\s[^<>\n]*)?>\s*\Z")
_NO_FRAME = re.compile(r"\w*(tool|function|call|action|invoke)s?|s|br|hr|img|p|li", re.I)
_SHOWING = re.compile(
    r"pre|code|samp|kbd|blockquote|q|quote|cite|examples?|documents?|\w*(result|response|output)s?", re.I
)


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


def is_indented(past: str) -> bool:
    """As far as Markdown wants it for code."""
    indent = line_before(past)
    return indent.isspace() and len(indent.expandtabs(4)) >= 4


def _frames(past: str) -> list[str]:
    """Names of the tags that were opened before and not closed."""
    found = [(one[1] or one[2], one.end()) for one in _TAG.finditer(past)] if "<" in past else []
    return [name for name, end in found if f"</{name}" not in past[end:]]


def is_shown(past: str) -> bool:
    """The words before it introduce an example, not an action."""
    if any(_SHOWING.fullmatch(name) for name in _frames(past)):
        return True
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
    if any(not _NO_FRAME.fullmatch(name) for name in _frames(past)):
        return True
    if past.rpartition("\n\n")[2].count("`") % 2:
        return True  # inline code may go over a line's end
    sentences = _sentences(past)
    if not sentences:
        return False
    from .languages import is_english, leaves_open

    last = sentences[-1]
    if _ASKS.search(last):
        return True
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
    if not sentences or _SHOWN_BEHIND.search(sentences[0]) or _ASKS_BEHIND.search(sentences[0]):
        return bool(sentences)
    from .languages import leaves_open_behind

    return leaves_open_behind(behind) and not talks


def is_announced(past: str) -> bool:
    """The words before it say that the model now acts; asked for where the text itself has no mark of a call."""
    sentences = _sentences(past)
    return bool(sentences) and bool(_MEANT.search(sentences[-1])) and not is_shown(past) and not is_open(past)


def _sentences(text: str) -> list[str]:
    return [one for one in _SENTENCE.split(text.strip()) if one.strip()]
