"""Generates questions and answers about the small world of world.py.

Three splits, told apart by hash, so that no run can mix them up:
  train  what the model sees
  combo  question forms it has seen, about things it was never asked in that form (or, out of world, things it never saw at all)
  form   whole question forms that it never saw
`python3 data.py` prints a sample of each kind.
"""
import hashlib
import random
import re

from world import *

SPLITS = ("train", "combo", "form")


def held(*key, below=26):
    """Whether key belongs to the hold-out: 26/256, one in ten, unless told otherwise."""
    return hashlib.sha256("|".join(map(str, key)).encode()).digest()[0] < below


def article(x):
    return ("an " if x[0] in "aeiou" else "a ") + x


def bare(x):
    """Drops a leading article."""
    head, _, tail = x.partition(" ")
    return tail if head in ("a", "an", "the") and tail else x


PLURAL = {"measurements", "tokens", "vouchers", "nonces", "epochs", "reference values", "endorsements", "payment channels", "receipts"}

DEFINE = ["What {is} {x}?", "What {is} {x}?", "What does {x} mean?", "Explain {x}.", "Tell me about {x}.", "Define {x}.", "Can you explain {x}?",
          "What do you know about {x}?", "I want to know what {x} {is}.", "{x}?", "What exactly {is} {x}?", "Describe {x}.",
          "Please explain {x} to me.", "In simple words, what {is} {x}?", "What do you mean by {x}?", "How would you explain {x}?",
          "What's {x}?", "I have never heard of {x}. What {is} it?", "Do you know what {x} {is}?"]
DEFINE_HELD = ["Could you say what {x} {is}?", "Give me a definition of {x}.", "I do not understand what {x} {is}.", "Help me understand {x}."]


def ask_define(r, x, forms):
    return r.choice(forms).format(x=x, **{"is": "are" if x in PLURAL else "is"})


def define(r, split):
    names, a = r.choice(DEFINITIONS)
    x = r.choice(names)
    q = ask_define(r, x, DEFINE_HELD if split == "form" else DEFINE)
    return (q, a), ("define", q)


def topic(r, split):
    train, unseen, a = r.choice(TOPICS)
    if split == "combo":
        return None  # the questions are whole sentences: there is no form to combine
    return (r.choice(unseen if split == "form" else train), a), None


def chat(r, split):
    train, unseen, a = r.choice(CHAT)
    if split == "combo":
        return None
    return (r.choice(unseen if split == "form" else train), a), None


CAPITAL = ["What is the capital of {c}?", "What is the capital of {c}?", "Name the capital of {c}.", "Capital of {c}?", "What's the capital of {c}?",
           "Tell me the capital of {c}.", "Which city is the capital of {c}?", "Do you know the capital of {c}?", "{c}: capital?"]
CAPITAL_HELD = ["Can you tell me the capital of {c}?", "I would like to know the capital of {c}."]
COUNTRY = ["{t} is the capital of which country?", "Which country has the capital {t}?", "{t} is the capital of what?"]
COUNTRY_HELD = ["Of which country is {t} the capital?"]


def capital(r, split):
    c = r.choice(list(CAPITALS))
    t = CAPITALS[c]
    forms, back = (CAPITAL_HELD, COUNTRY_HELD) if split == "form" else (CAPITAL, COUNTRY)
    q = r.choice(back).format(t=t) if r.random() < .25 else r.choice(forms).format(c=c)
    return (q, f"The capital of {c} is {t}."), ("capital", q)


def arithmetic(r, split):
    op = r.choices("+-*<", (5, 4, 2, 2))[0]
    if op == "*":
        a, b = r.randrange(11), r.randrange(11)
        forms, unseen = ["What is {a} * {b}?", "What is {a} times {b}?", "{a} * {b}", "Multiply {a} by {b}.", "{a} x {b} ="], ["How much is {a} times {b}?"]
        s = f"{a} * {b} = {a * b}."
    elif op == "<":
        a, b = r.sample(range(100), 2)
        if r.random() < .5:
            forms, unseen = ["Which is larger, {a} or {b}?", "What is bigger: {a} or {b}?"], ["Which number is the larger one, {a} or {b}?"]
            s = f"{max(a, b)} is larger."
        else:
            forms, unseen = ["Which is smaller, {a} or {b}?", "What is smaller: {a} or {b}?"], ["Which number is the smaller one, {a} or {b}?"]
            s = f"{min(a, b)} is smaller."
    else:
        top = r.choice((10, 20, 100, 100, 100))
        a, b = r.randrange(top), r.randrange(top)
        if op == "-":
            a, b = max(a, b), min(a, b)
            forms = ["What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b}", "{a}-{b}=", "Subtract {b} from {a}.", "{a} minus {b}?"]
            unseen = ["How much is {a} minus {b}?", "Take {b} away from {a}."]
            s = f"{a} - {b} = {a - b}."
        else:
            forms = ["What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b}", "{a}+{b}=", "Add {a} and {b}.", "{a} plus {b}?", "What's {a}+{b}?",
                     "What is the sum of {a} and {b}?"]
            unseen = ["How much is {a} plus {b}?", "Calculate {a} + {b}."]
            s = f"{a} + {b} = {a + b}."
    q = r.choice(unseen if split == "form" else forms).format(a=a, b=b)
    return (q, s), ("sum", op, a, b)  # a held-out pair of numbers is held out in every form


REVIEW = ["The {t} was {w}.", "I think the {t} was {w} and the {u} was {v}.", "What a {w} {t}!", "{w} {t}, {v} {u}.", "The {t} is {w} and {v}.",
          "We found the {t} {w}.", "I had a {w} {t} and a {v} {u}.", "Such a {w} {t}.", "My {t} was really {w}.", "The {t} was very {w}, the {u} too."]
REVIEW_HELD = ["It was a {w} {t} with a {v} {u}.", "Everybody said that the {t} was {w}."]
SENTIMENT = ["Is this review positive or negative? {s}", "Sentiment: {s}", "Classify the review: {s}", "Positive or negative? {s}",
             "Judge this review: {s}", "{s} Is that positive or negative?"]
SENTIMENT_HELD = ["Tell me if this review is positive or negative: {s}", "What is the sentiment of this? {s}"]


def sentiment(r, split):
    good = r.random() < .5
    words = GOOD if good else BAD
    w, v, t, u = r.choice(words), r.choice(words), r.choice(ITEMS), r.choice(ITEMS)
    if r.random() < .12:
        s, good = f"The {t} was not {r.choice(GOOD)}.", False
    else:
        s = r.choice(REVIEW_HELD if split == "form" else REVIEW).format(w=w, v=v, t=t, u=u)
    s = re.sub(r"\b([Aa]) (?=[aeio]|un|ug)", r"\1n ", s)
    q = r.choice(SENTIMENT_HELD if split == "form" else SENTIMENT).format(s=s[0].upper() + s[1:])
    return (q, "Positive." if good else "Negative."), ("review", w, t)


def tale(r, n, a):
    p, c, o, pet, m = r.choice(PLACES), r.choice(COLORS), r.choice(THINGS), r.choice(PETNAMES), r.choice(NAMES)
    while m == n:
        m = r.choice(NAMES)
    return " ".join([
        r.choice([f"Once upon a time, {n} lived near a {p}.", f"One morning, {n} walked to the {p}.", f"{n} loved to play by the {p}."]),
        r.choice([f"There {n} met {article(c)} {a} named {pet}.", f"A little {a} named {pet} was waiting there. It was {c}."]),
        r.choice([f"{pet} had lost a {o} and was very sad.", f"{pet} was looking for a {o}.", f"{pet} could not carry a heavy {o} alone.",
                  f"{pet} was afraid because a {o} had fallen into the water."]),
        r.choice([f'"Do not worry," said {n}. "I will help you."', f'"Let us look together," said {n}.', f'"My friend {m} can help us," said {n}.']),
        r.choice([f"They searched all day and found the {o} under a tree.", f"They worked together, and soon the {o} was safe.",
                  f"At last, {n} saw the {o} near the {p}.", f"In the evening the {o} lay in the grass, and it shone like the moon."]),
        r.choice([f"{pet} was so happy that it danced.", f"The {a} thanked {n} and smiled.", f"{n} laughed, and {pet} laughed too."]),
        r.choice([f"From that day on, {n} and {pet} were best friends.", f"{n} went home and told everyone about the kind {a}.",
                  f"And {n} never forgot the {a} named {pet}."]),
    ])


STORY = {"": ["Tell me a story.", "Write a short story.", "Tell a story, please.", "I want a story.", "Can you write a story?"],
         "n": ["Tell me a story about {n}.", "Write a story about {n}.", "A story about {n}, please."],
         "a": ["Tell me a story about {a}.", "Write a story about {a}.", "I want a story with {a}."],
         "na": ["Tell me a story about {n} and {a}.", "Write a story about {n} and {a}.", "Write a short story in which {n} meets {a}."]}
STORY_HELD = {"": ["I would like to hear a story."], "n": ["Make up a story about {n}."], "a": ["Make up a story about {a}."],
              "na": ["Make up a story about {n} and {a}.", "I would like to hear a story about {n} and {a}."]}


def story(r, split):
    n, a = r.choice(NAMES), r.choice(ANIMALS)
    kind = r.choice(("", "n", "a", "na", "na"))
    q = r.choice((STORY_HELD if split == "form" else STORY)[kind]).format(n=n, a=article(a))
    return (q, tale(r, n, a)), ("story", n, a) if kind == "na" else None


def pseudo(r):
    return "".join(r.choice(["b", "br", "d", "dr", "f", "fl", "g", "gr", "k", "l", "m", "n", "p", "pl", "r", "s", "sk", "t", "tr", "v", "w", "z", "qu"]) +
                   r.choice("aeiou") + r.choice(["", "", "n", "r", "l", "x", "sh", "m"]) for _ in range(r.choice((1, 2, 2, 3))))


WORDS = sorted(set(ANIMALS + COLORS + THINGS + PLACES + ITEMS + GOOD + BAD + [n.lower() for n in NAMES]))
TRICKS = {"upper": (["Write in capital letters: {t}", "Make this uppercase: {t}", "Uppercase: {t}"], ["Put this in capitals: {t}"]),
          "repeat": (["Repeat after me: {t}", "Repeat: {t}", "Say this: {t}", "Echo: {t}"], ["Please say exactly this: {t}"]),
          "count": (["How many words: {t}", "Count the words: {t}", "How many words are there in: {t}"], ["Tell me the number of words: {t}"]),
          "reverse": (["Reverse the word order: {t}", "Write the words backwards: {t}", "Reverse: {t}"], ["Turn the words around: {t}"]),
          "first": (["What is the first word of: {t}", "First word: {t}"], ["Which word comes first in: {t}"]),
          "last": (["What is the last word of: {t}", "Last word: {t}"], ["Which word comes last in: {t}"])}


def trick(r, split):
    kind = r.choice(list(TRICKS))
    words = [pseudo(r) if kind != "upper" and r.random() < .3 else r.choice(WORDS) for _ in range(r.randrange(1 if kind in ("upper", "repeat") else 2, 6))]
    t = " ".join(words)
    a = {"upper": t.upper(), "repeat": t, "count": str(len(words)), "reverse": " ".join(reversed(words)), "first": words[0], "last": words[-1]}[kind]
    train, unseen = TRICKS[kind]
    return (r.choice(unseen if split == "form" else train).format(t=t), a), ("trick", kind, t)


def small(r, split):
    """Opposites, days, months, sounds, colours."""
    f = split == "form"
    k = r.randrange(5)
    if k == 0:
        x, y = r.choice(OPPOSITES).split()
        if r.random() < .5:
            x, y = y, x
        q = r.choice(["Which word is opposite to {x}?"] if f else ["What is the opposite of {x}?", "Opposite of {x}?", "Name the opposite of {x}."]).format(x=x)
        a = f"The opposite of {x} is {y}."
    elif k in (1, 2):
        names, unit = (DAYS, "day") if k == 1 else (MONTHS, "month")
        i, after = r.randrange(len(names)), r.random() < .5
        w = "after" if after else "before"
        q = r.choice(["Tell me the {u} that comes {w} {x}."] if f else ["What {u} comes {w} {x}?", "Which {u} is {w} {x}?", "What comes {w} {x}?"]).format(u=unit, w=w, x=names[i])
        a = f"{names[(i + (1 if after else -1)) % len(names)]} comes {w} {names[i]}."
    elif k == 3:
        x = r.choice(list(SOUNDS))
        q = r.choice(["Which sound does {x} make?"] if f else ["What does {x} say?", "What sound does {x} make?"]).format(x=article(x))
        a = f"{article(x).capitalize()} says {SOUNDS[x]}."
    else:
        x = r.choice(list(COLOURS))
        n = x.replace("_", " ")
        q = r.choice(["Tell me the colour of {x}."] if f else ["What colour is {x}?", "Which colour has {x}?", "What is the colour of {x}?"]).format(x=n)
        a = f"{n.capitalize()} is {COLOURS[x]}."
    return (q, a), ("small", q)


# Questions with known words in them that still have no answer here.
NEAR = ["Who invented {x}?", "When was {x} invented?", "How many people use {x}?", "What is wrong with {x}?", "Who first used {x}?", "How old is {x}?",
        "Which country uses {x} most?"]
NEAR_HELD = ["In which year did {x} begin?", "Who came up with {x}?"]
LAND = ["What is the population of {c}?", "How big is {c}?", "Who rules {c}?", "What do people eat in {c}?", "What is the currency of {c}?", "Where is {c}?",
        "Which language do they speak in {c}?", "What is the history of {c}?", "What is the largest lake in {c}?", "Who is the king of {c}?",
        "How far is it to {c}?", "What is the weather in {c}?", "Tell me about {c}.", "What is the flag of {c}?"]
LAND_HELD = ["How many cities are there in {c}?", "What is {c} famous for?", "Who was the first president of {c}?"]
ABOUT = [  # (train forms, held-out forms, entities)
    (["Who was {x}?", "Who is {x}?", "When was {x} born?", "What did {x} do?", "Tell me about {x}.", "Where did {x} live?", "How did {x} die?",
      "Why is {x} famous?", "Do you know {x}?", "What is {x} known for?"], ["Give me a short biography of {x}.", "Which books did {x} write?"], PEOPLE),
    (["When did {x} happen?", "What caused {x}?", "When was {x}?", "Tell me about {x}.", "Who took part in {x}?", "How long ago was {x}?", "Explain {x}."],
     ["In which year was {x}?", "What were the results of {x}?"], EVENTS),
    (["What is the capital of {x}?", "How many people live in {x}?", "Where is {x}?", "What can I see in {x}?", "Tell me about {x}.", "How big is {x}?",
      "Name the capital of {x}.", "What is the weather in {x}?", "How do I get to {x}?", "Which city is the capital of {x}?"],
     ["What is {x} famous for?", "Can you tell me the capital of {x}?"], PLACES_OUT),
    (["How do I make {x}?", "How do you cook {x}?", "Give me a recipe for {x}.", "How long do I cook {x}?", "What do I need for {x}?", "Who invented {x}?"],
     ["Which ingredients are in {x}?", "Teach me how to make {x}."], DISHES),
    (["How do I {x}?", "How can I {x}?", "What is the best way to {x}?", "Teach me to {x}.", "Help me to {x}.", "I want to {x}. What should I do?"],
     ["Show me how to {x}.", "What do I need to know to {x}?"], CHORES),
]


def unknown(r, split):
    k = r.random()
    form = split == "form"
    if k < .22:  # out-of-world things asked for exactly as the known ones are
        x = r.choice(NOUNS)
        q, key = ask_define(r, x, DEFINE_HELD if form else DEFINE), ("thing", bare(x))
    elif k < .40:
        x = pseudo(r)
        key = ("pseudo", x)
        x = r.choice([x, article(x), "the " + x, x.capitalize(), "the " + x.capitalize(), x.upper()])
        if r.random() < .7:
            q = ask_define(r, x, DEFINE_HELD if form else DEFINE)
        else:
            q = r.choice(CAPITAL_HELD if form else CAPITAL).format(c=x)
    elif k < .50:
        c = r.choice(list(CAPITALS))
        q = r.choice(LAND_HELD if form else LAND).format(c=c)
        key = ("land", q)
    elif k < .56:
        x = r.choice(r.choice(DEFINITIONS)[0])
        q = r.choice(NEAR_HELD if form else NEAR).format(x=x)
        key = ("near", q)
    elif k < .78:
        train, unseen, things = r.choice(ABOUT)
        x = r.choice(things)
        q, key = r.choice(unseen if form else train).format(x=x), ("about", x)
    elif k < .84:
        x, l, t = r.choice(TASKS), r.choice(LANGUAGES), r.choice(TONGUES)
        if r.random() < .6:
            q = r.choice(["Show me {l} code to {x}."] if form else ["Write a {l} program to {x}.", "How do I {x} in {l}?", "Write code that can {x}.", "Write a {l} function to {x}."]).format(l=l, x=x)
        else:
            x = r.choice(WORDS)
            q = r.choice(["How do you say {x} in {t}?"] if form else ["Translate {x} into {t}.", "What is {x} in {t}?", "What is the {t} word for {x}?"]).format(x=x, t=t)
        key = ("task", x)
    elif k < .91:
        a, b = r.randrange(100, 100000), r.randrange(2, 5000)
        q = r.choice(["How much is {a} divided by {b}?", "How much is {a} times {b}?"] if form else
                     ["What is {a} * {b}?", "What is {a} + {b}?", "What is {a} divided by {b}?", "{a} / {b}", "{a} - {b}", "What is {b} percent of {a}?", "What is {a} times {b}?",
                      "What is the square root of {a}?", "Add {a} and {b}."]).format(a=a, b=b)
        key = ("big", a, b)
    else:
        q = r.choice(OUTSIDE)
        if form:
            return None  # whole sentences: the hold-out of these is the combo split
        key = ("outside", q)
    return (q, UNKNOWN), key


# kind: (generator, weight in training). One key in ten is held out; for unknown, one in five.
KINDS = {"define": (define, 18), "topic": (topic, 12), "unknown": (unknown, 24), "arithmetic": (arithmetic, 25), "capital": (capital, 7), "sentiment": (sentiment, 5),
         "story": (story, 4), "trick": (trick, 8), "small": (small, 5), "chat": (chat, 4)}


def rough(r, kind, q):
    """What people do to a question: no capitals, no full stop, a please."""
    if kind not in ("trick", "sentiment", "chat"):
        k = r.random()
        if k < .05 and len(q) > 12:
            q = r.choice(["Please, ", "Hi, ", "Hello! ", "Hey, ", "One question: ", "So, ", "And "]) + q
        elif k < .08 and q[-1] in "?.":
            q = q[:-1] + ", please" + q[-1]
    if kind not in ("trick",):
        if r.random() < .15:
            q = q.lower() if r.random() < .6 else q[0].lower() + q[1:]
        if r.random() < .12 and q[-1] in "?." and len(q) > 3:
            q = q[:-1].rstrip(".")
    return q


def sample(r, split="train", kind=None, weights=None):
    """One (kind, question, answer) of the split, or None if the kind has no such split."""
    if kind is None:
        kind = r.choices(list(weights), weights.values())[0]
    gen = KINDS[kind][0]
    for _ in range(1000):
        got = gen(r, split)
        if got is None:
            if kind == "unknown":
                continue
            return None
        (q, a), key = got
        out = key is not None and held(*key, below=52 if kind == "unknown" else 26)
        if split == "train" and out or split == "combo" and not out:
            continue
        return kind, q if split == "form" else rough(r, kind, q), a
    return None


def turn(q, a):
    return f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n", f"{a}<|im_end|>\n"


def conversation(r, weights):
    """A training conversation: a list of (text, is answer)."""
    out = []
    if r.random() < .25:
        out.append((f"<|im_start|>system\n{r.choice(SYSTEM)}<|im_end|>\n", False))
    turns = r.choices((1, 2, 3), (6, 3, 1))[0]
    qa = []
    if r.random() < .03:  # something to remember
        n = r.choice(NAMES)
        qa = [(r.choice([f"My name is {n}.", f"I am {n}.", f"Hello, I am {n}."]), f"Nice to meet you, {n}.")] if r.random() < .7 else []
        known = bool(qa)
        if r.random() < .5:
            qa += [sample(r, weights=weights)[1:]]
        qa += [(r.choice(["What is my name?", "Who am I?", "Do you know my name?"]), f"Your name is {n}." if known else UNKNOWN)]
    else:
        qa = [sample(r, weights=weights)[1:] for _ in range(turns)]
    for q, a in qa:
        p, s = turn(q, a)
        out += [(p, False), (s, True)]
    return out


if __name__ == "__main__":
    r = random.Random(0)
    for kind in KINDS:
        for split in SPLITS:
            for _ in range(8):
                got = sample(r, split, kind)
                if got:
                    print(f"{kind:10} {split:6} {got[1]!r} -> {got[2]!r}")
