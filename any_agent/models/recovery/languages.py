"""What words around a call say in languages other than English. Where they are not understood, the structure decides.

A word for "example" shows. A colon, a negation or a condition before a call, or prose behind it, leaves it open: then
the call is not run, and the model is asked to make it again with nothing around it.
"""

from __future__ import annotations

import re

# "example", "for instance", "looks like", "syntax": in Latin, Cyrillic and Greek letters, then in the other scripts.
_EXAMPLE = re.compile(
    r"\b(beispiel|z\. ?b\.|muster(aufruf)?\b|exempl|exempel|eksempel|esempi|ejemplo|p\. ?ej\.|par ex\.|ad es\."
    r"|voorbeeld|bijv\.|esimerk|przyk[łl]ad|np\.|p[řr][íi]klad|nap[řr]\.|példa|például|primjer|na primer\b|zgled\b"
    r"|örne[kğ]|nümunə|nüsxə|pavyzd|piemēr|näide|näiteks|shembull|adibide|ekzemplo|dæmi|enghraifft|sampla\b|eżempju"
    r"|contoh|halimbawa|ví dụ|mfano\b|misali\b|misol\b|mînak|apẹẹrẹ|isibonelo|пример|приклад|прыклад|например"
    r"|мысал|жишээ|παράδειγμα|παραδείγμα|synta[xk]|sintass|sintaxe|formato|so sieht|sieht so aus|würde so"
    r"|ressemble|voici comment|se ver[íi]a|as[íi] se|выгляд\w+ так|синтаксис"
    r"|hypothet|hypothét|hip[oó]t[eé]tic|ipotetic|гипотет|angenommen|supposons|supongamos|suponha|supponiamo|допустим"
    r"|предположим)"
    r"|例如|例子|示例|比如|譬如|范例|範例|样例|樣例|举例|舉例|格式|语法|語法|假设|假設|例えば|例[:：です文示]|の例|サンプル|構文|書式"
    r"|예시|예를 들|예제|예[:：]|형식|구문|مثال|مثلا|نمونه|דוגמ|उदाहरण|উদাহরণ|உதாரண|எடுத்துக்காட்டு|ఉదాహరణ"
    r"|ಉದಾಹರಣೆ|ഉദാഹരണ|ઉદાહરણ|ਉਦਾਹਰਣ|ตัวอย่าง|օրինակ|მაგალით|ምሳሌ|ឧទាហរណ៍|ຕົວຢ່າງ|ဥပမာ|උදාහරණ",
    re.I,
)
# "I …", "now", "one moment": the model says what it does.
_ACTS = re.compile(
    r"\b(ok|okay|ich|lass mich|moment|jetzt|gleich|je|j['’]\w+|laisse[zs]?-moi|un instant|maintenant|voy a"
    r"|d[ée]jame|perm[íi]t\w*|estoy|ahora|vou|deixe|estou|agora|sto|vado|lasciami|adesso|un attimo|ik|laat me|even|nu"
    r"|jag|jeg|l[åa]t mig|lad mig|la meg|nå|sprawdz\w*|zaraz|teraz|ted|teď|hned|most|acum|şimdi|hemen|bakıyorum|bakayım"
    r"|я|сейчас|давайте|позвольте|зараз|сега|τώρα|tôi|đang|saya|sedang|sekarang)\b"
    r"|我来|我來|让我|讓我|正在|现在|現在|马上|馬上|稍等|请稍|ます|ましょう|してみ|하겠습니다|할게요|지금|سأ|دعني|الآن"
    r"|मैं|अभी|אני|עכשיו|اکنون|الان|กำลัง",
    re.I,
)
# Negations, conditions, "as follows".
_HEDGES = re.compile(
    r"\b(nicht|nie|niemals|kein\w*|würde\w*|könnte\w*|hätte\w*|falls|statt|folgend\w*|wie folgt|pas|jamais|plutôt|si"
    r"|comme (ceci|suit|ça)|ainsi|suivant\w*|\w+(rais|rait|raient|rions)|nunca|jamás|así|siguiente\w*|\w+rían?|não"
    r"|assim|seguinte\w*|seria|faria|chamaria|non|mai|così|seguent[ei]|come segue|farei|potrei|potrebbe|sarebbe|niet"
    r"|nooit|zou|geen|als volgt|volgende|inte|ikke|ikkje|aldrig|skulle|så här|slik|sådan|följande|nigdy|gdyby"
    r"|następując\w*|ne|nikdy|kdyby|takto|nem|dacă|değil|asla|eğer|şöyle|böyle|не|нельзя|никогда|если|бы|так|следующ\w*"
    r"|якщо|ако|δεν|μην|không|đừng|nếu|tidak|jangan|jika|seperti)\b"
    r"|(?<![对對])不(?!客气|客氣|用|好意思|过)|(?<![特分区區级類类性])[别別]|没(?!问题|關係|关系)|勿|如果|若|这样|這樣|如下"
    r"|(?<!すみ)ません|ない|なら|れば|ように|こう|このよう|次の|지 마|않"
    r"|(?<!\w)안 |만약|이렇게|다음과|(?<!\w)لا |(?<!\w)لو |إذا|كالتالي"
    r"|नहीं|(?<!\w)मत |अगर|(?<!\w)לא |(?<!\w)אם |(?<!\w)نه |اگر|ไม่|ถ้า",
    re.I,
)
_ENGLISH = re.compile(
    r"\b(the|this|that|these|those|with|you|your|and|let|its?|what|here|now|are|from|have|has|about|will|would|should"
    r"|sure|first|next|please|results?|waiting|checking|looking|calling|getting|fetching|using|reading|running|searching)\b"
    r"|(?-i:\bI\b)",
    re.I,
)
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]+")


def is_example(sentence: str) -> bool:
    """It has a word for "example", and is not in English."""
    return bool(_EXAMPLE.search(sentence)) and not is_english(sentence)


def is_english(text: str) -> bool:
    """It has a word that only English has: then the rules for English words judge it."""
    return bool(_ENGLISH.search(text))


def leaves_open(sentence: str) -> bool:
    """Words before a call, in no English we know, that may announce it or show it."""
    if is_english(sentence) or not _LETTER.search(sentence):
        return False
    if _HEDGES.search(sentence):
        return True
    return sentence.rstrip().endswith((":", "：", "﹕", "︰")) and not _ACTS.search(sentence)


def leaves_open_behind(text: str) -> bool:
    """Prose behind a call that may speak of it as of a thing that was shown."""
    if is_english(text) or text.lstrip()[:1] in ("<", "[", "{"):  # marks, an invented result
        return False
    return is_example(text) or len(_WORD.findall(text)) > 1 or (not text.isascii() and bool(_LETTER.search(text)))
