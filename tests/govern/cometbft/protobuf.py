"""Protocol Buffers by hand, from its specification of the encoding: numbers of fields are written where they are used.

A message is a list of pairs (number, value), in order: of whole numbers, bytes or text, or of a message again.
"""


def varint(number):
    number &= (1 << 64) - 1
    out = []
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


def encode(*fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number * 8) + varint(value)
            continue
        body = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else encode(*value)
        out += varint(number * 8 + 2) + varint(len(body)) + body
    return out


def decode(raw):
    """Return the fields of a message; what is not a whole number as bytes."""
    fields, at = [], 0
    while at < len(raw):
        tag, at = read_varint(raw, at)
        value, at = read_varint(raw, at)
        if tag % 8 == 2:
            assert at + value <= len(raw)
            value, at = raw[at : at + value], at + value
        else:
            assert tag % 8 == 0, f"wire type {tag % 8}"
        fields.append((tag // 8, value))
    return fields


def read_varint(raw, at):
    value = shift = 0
    while raw[at] >= 128:
        value |= (raw[at] - 128) << shift
        shift, at = shift + 7, at + 1
    return value | raw[at] << shift, at + 1


def framed(*messages):
    return b"".join(varint(len(one)) + one for one in messages)


def unframed(raw):
    messages, at = [], 0
    while at < len(raw):
        length, at = read_varint(raw, at)
        assert at + length <= len(raw)
        messages.append(raw[at : at + length])
        at += length
    return messages
