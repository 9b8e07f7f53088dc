"""Ed25519 after RFC 8032, section 5.1, in plain affine arithmetic: slow, lenient, and open to every odd input.

`holds` evaluates the equation of verification on whatever points the bytes mean, canonical or not, so that a test can
say of a signature whether each of the two equations in use would accept it.
"""

from hashlib import sha512

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
IDENTITY = (0, 1)


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def negative(a):
    return -a[0] % P, a[1]


def times(n, a):
    total = IDENTITY
    for bit in bin(n)[2:]:
        total = add(total, total)
        if bit == "1":
            total = add(total, a)
    return total


def recover_x(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    return x if x & 1 == sign else -x % P


def decode(data):
    """Return the point that the bytes mean, reducing y and ignoring a sign on x = 0; None if there is none."""
    number = int.from_bytes(data, "little")
    y, sign = number % 2**255 % P, number >> 255
    x = recover_x(y, sign)
    return None if x is None else (x, y)


def encode(a):
    return (a[1] + ((a[0] & 1) << 255)).to_bytes(32, "little")


BASE = (recover_x(4 * pow(5, -1, P) % P, 0), 4 * pow(5, -1, P) % P)


def torsion():
    """Return the eight points of small order, multiples of one of order 8."""
    y = 2
    while True:
        x = recover_x(y, 0)
        if x is not None:
            found = times(L, (x, y))
            if times(4, found) != IDENTITY:
                return [times(n, found) for n in range(8)]
        y += 1


def secret(seed):
    """Return the secret scalar of a seed, and the prefix of its nonces."""
    hashed = sha512(seed).digest()
    scalar = int.from_bytes(hashed[:32], "little")
    return (scalar & (2**254 - 8)) | 2**254, hashed[32:]


def public(seed):
    return encode(times(secret(seed)[0], BASE))


def challenge(point, key, message):
    return int.from_bytes(sha512(point + key + message).digest(), "little") % L


def sign(seed, message):
    scalar, prefix = secret(seed)
    nonce = int.from_bytes(sha512(prefix + message).digest(), "little") % L
    point, key = encode(times(nonce, BASE)), public(seed)
    return point + ((nonce + challenge(point, key, message) * scalar) % L).to_bytes(32, "little")


def holds(key, message, signature, cofactor):
    """Return whether [c]([S]B) = [c](R + [k]A), the cofactor c being 1 or 8, for any encoding of A and R and any S."""
    a, r = decode(key), decode(signature[:32])
    if a is None or r is None:
        return False
    k = challenge(signature[:32], key, message)
    s = int.from_bytes(signature[32:], "little")
    right = add(r, times(k, a))
    return times(cofactor, times(s, BASE)) == times(cofactor, right)
