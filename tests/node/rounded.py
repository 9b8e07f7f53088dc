"""A round in exact fractions, each operation rounded as IEEE 754 says: no NumPy and no float arithmetic.

A number is a Fraction that float64 can hold. Signs of zeros are not kept; none reaches a result.
"""

import hashlib
import math
from fractions import Fraction

HALF = Fraction(1, 2)


def nearest(x, digits, lowest):
    """Return the nearest number with so many binary digits and none below 2**lowest; of two the even one."""
    if x == 0:
        return x
    size = abs(x)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    while Fraction(2) ** exponent > size:
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= size:
        exponent += 1
    unit = Fraction(2) ** max(exponent - digits + 1, lowest)
    whole, rest = divmod(x / unit, 1)
    if rest > HALF or (rest == HALF and whole % 2):
        whole += 1
    return whole * unit


def double(x):
    return nearest(Fraction(x), 53, -1074)


def single(x):
    return nearest(Fraction(x), 24, -149)


def root(x):
    """Return the square root, rounded once: enough of its digits, and one more if it goes on."""
    shift = max(0, 200 - x.numerator.bit_length() + x.denominator.bit_length())
    scaled = x * 4**shift
    whole = math.isqrt(scaled.numerator // scaled.denominator)
    rest = whole * whole != scaled
    return double(Fraction(2 * whole + rest, 2 * 2**shift))


def constant(decimal):
    """Return the float64 of a decimal."""
    return double(Fraction(decimal))


def weighted_mean(columns, weights):
    everything = sum(weights)
    return [double(sum(w * x for w, x in zip(weights, column, strict=True)) / everything) for column in columns]


def trimmed_mean(columns, weights):
    cut = len(weights) // 10
    return [double(added(sorted(column)[cut : len(column) - cut]) / (len(column) - 2 * cut)) for column in columns]


def added(numbers):
    total = Fraction(0)
    for number in numbers:
        total = double(total + number)
    return total


def geometric_median(columns, weights, first=3):
    """Smoothed Weiszfeld from the median; distances are summed over the first array, then over the second."""
    middle = len(weights) // 2
    assert len(weights) % 2
    centre = [sorted(column)[middle] for column in columns]
    for _ in range(8):
        shares = []
        for client, weight in enumerate(weights):
            squares = []
            for column, at in zip(columns, centre, strict=True):
                apart = double(column[client] - at)
                squares.append(double(apart * apart))
            away = root(double(added(squares[:first]) + added(squares[first:])))
            shares.append(double(weight / max(away, constant("1e-6"))))
        everything = added(shares)
        shares = [double(share / everything) for share in shares]
        centre = [
            added(double(number * share) for number, share in zip(column, shares, strict=True)) for column in columns
        ]
    return centre


def adam(gradient, moments, count, rate):
    b1, b2, eps = constant("0.9"), constant("0.999"), constant("1e-8")
    first, second = (double(1 - power(base, count + 1)) for base in (b1, b2))
    steps, news = [], ([], [])
    for g, m, v in zip(gradient, *moments, strict=True):
        m = double(double(double(1 - b1) * g) + double(b1 * m))
        v = double(double(double(1 - b2) * double(g * g)) + double(b2 * v))
        below = double(root(double(v / second)) + eps)
        steps.append(double(-rate * double(double(m / first) / below)))
        news[0].append(m)
        news[1].append(v)
    return steps, news


def power(base, exponent):
    """Return the power by squaring, the lowest binary digit first."""
    result, square = Fraction(1), base
    for digit in reversed(f"{exponent:b}"):
        if digit == "1":
            result = double(result * square)
        square = double(square * square)
    return result


def momentum(gradient, moments, count, rate):
    decay = constant("0.9")
    trace = [double(g + double(decay * t)) for g, t in zip(gradient, *moments, strict=True)]
    return [double(-rate * t) for t in trace], (trace,)


def adagrad(gradient, moments, count, rate):
    eps, steps, sums = constant("1e-7"), [], []
    for g, s in zip(gradient, *moments, strict=True):
        s = double(double(g * g) + s)
        turned = double(1 / root(double(s + eps))) if s > 0 else Fraction(0)
        steps.append(double(-rate * double(turned * g)))
        sums.append(s)
    return steps, (sums,)


RULES = {"weighted_mean": weighted_mean, "trimmed_mean": trimmed_mean, "geometric_median": geometric_median}
# With the number of moments, and whether the state counts steps.
SERVERS = {"adam": (adam, 2, True), "momentum": (momentum, 1, False), "adagrad": (adagrad, 1, False)}


def bits(x):
    """Return a number that float32 can hold as its four bytes, the lowest first."""
    sign, size = (x < 0) << 31, abs(x)
    if size < Fraction(2) ** -126:
        word = size / Fraction(2) ** -149
    else:
        exponent = size.numerator.bit_length() - size.denominator.bit_length()
        exponent -= Fraction(2) ** exponent > size
        word = ((exponent + 127) << 23) + (size / Fraction(2) ** exponent - 1) * 2**23
    assert word == int(word)
    return (sign | int(word)).to_bytes(4, "little")


def numbers(which, count=63):
    """Return the known cases' phi, or a moment."""
    formulas = (
        lambda i: Fraction((31 * i * i + 17) % 4097 - 2048, 1024),
        lambda i: Fraction(37 * i % 101 - 50, 1024),
        lambda i: Fraction(53 * i % 211, 4096),
    )
    return [Fraction(2) ** -140 if which == 0 else Fraction(0), *(formulas[which](i) for i in range(1, count))]


def known(rule, server, members=11, count=63):
    """Return the three states' bytes of a known case."""
    steps = [
        [0, *((7919 * i + 104729 * k * (i + 3)) % (2**24 - 1) - (2**23 - 1) for i in range(1, count))]
        for k in range(members)
    ]
    sent = [
        (b"".join((n % 2**32).to_bytes(4, "little") for n in steps[k]) + bits(Fraction(2 * k + 1)), k)
        for k in range(members)
    ]
    order = [k for _, k in sorted(sent, key=lambda pair: hashlib.sha256(pair[0]).digest())]
    columns = [[Fraction(steps[k][i], 2**20) for k in order] for i in range(count)]
    gradient = RULES[rule](columns, [Fraction(2 * k + 1) for k in order])
    move, moments, counts = SERVERS[server]
    before = [numbers(1 + place) for place in range(moments)]
    moved, after = move(gradient, before, 0, constant("0.3"))
    one = (1).to_bytes(4, "little")

    def stepped(phi):
        return [single(double(p + u)) for p, u in zip(phi, moved, strict=True)]

    def state(phi):
        packed = [b"".join(bits(single(x)) for x in tree) for tree in (phi, *after)]
        return packed[0] + one * counts + b"".join(packed[1:]) + one

    second = stepped([Fraction(2) ** -140, *[Fraction(0)] * (count - 1)])
    third = stepped([-x for x in second])
    assert any(third[1:])
    return state(stepped(numbers(0))) + state(second) + state(third)
