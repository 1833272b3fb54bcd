"""As much of HTTP/2 (RFC 9113) and HPACK (RFC 7541) as a unary gRPC call needs, for both sides.

`client` and `backends` use it. No flow control of what is sent: messages are small. Fields are written as literals; all
forms are read, Huffman codes for the printable characters only.
"""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 1
END_HEADERS, PADDED, PRIORITY = 4, 8, 32
EMPTY_MESSAGE = b"\0" * 5
TABLE_BYTES = 4096
ENTRY_OVERHEAD = 32

# RFC 7541 appendix A: names, and behind a colon that does not lead the values that have an entry.
STATIC_TEXT = """
:authority :method:GET,POST :path:/,/index.html :scheme:http,https :status:200,204,206,304,400,404,500 accept-charset
accept-encoding:gzip,+deflate accept-language accept-ranges accept access-control-allow-origin age allow authorization
cache-control content-disposition content-encoding content-language content-length content-location content-range
content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range
if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range referer
refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate
"""

# RFC 7541 appendix B is canonical: the lengths of the codes tell the codes. What is longer does not occur here.
CHARACTERS_BY_BITS = {
    5: "012aceiost",
    6: " %-./3456789=A_bdfghlmnpru",
    7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: "&*,;XZ",
    10: '!"()?',
    11: "'+|",
    12: "#>",
    13: "\0$@[]~",
    14: "^}",
    15: "<`{",
}


def static_entries():
    for word in STATIC_TEXT.split():
        name, _, values = word[1:].partition(":")
        values = ["gzip, deflate"] if "+" in values else values.split(",")
        yield from ((word[0] + name, value) for value in values)


def huffman_codes():
    codes, code, before = {}, 0, 5
    for bits, characters in CHARACTERS_BY_BITS.items():
        code, before = code << (bits - before), bits
        for character in characters:
            codes[bits, code] = character
            code += 1
    return codes


STATIC, HUFFMAN = list(static_entries()), huffman_codes()
assert len(STATIC) == 61


def unhuffman(data):
    text, code, bits = [], 0, 0
    for octet in data:
        for shift in range(7, -1, -1):
            code, bits = code << 1 | octet >> shift & 1, bits + 1
            if (bits, code) in HUFFMAN:
                text.append(HUFFMAN[bits, code])
                code = bits = 0
    if bits > 7:
        raise ValueError("a Huffman code that is not known here")
    return "".join(text)


class FieldReader:
    """The decoding side of HPACK for one direction of a connection."""

    def __init__(self):
        self.recent, self.limit = [], TABLE_BYTES

    def read(self, block):
        self.block, self.at = block, 0
        fields = []
        while self.at < len(block):
            first = block[self.at]
            if first & 0x80:
                fields.append(self.entry(self.number(7)))
            elif first & 0xE0 == 0x20:
                self.limit = self.number(5)
                self.evict()
            else:
                fields.append(self.literal(first & 0x40))
        return fields

    def literal(self, kept):
        index = self.number(6 if kept else 4)
        name = self.entry(index)[0] if index else self.text()
        field = (name, self.text())
        if kept:
            self.recent.insert(0, field)
            self.evict()
        return field

    def entry(self, index):
        return STATIC[index - 1] if index <= len(STATIC) else self.recent[index - len(STATIC) - 1]

    def evict(self):
        while sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in self.recent) > self.limit:
            self.recent.pop()

    def number(self, bits):
        highest = (1 << bits) - 1
        value, shift = self.block[self.at] & highest, 0
        self.at += 1
        more = value == highest
        while more:
            octet = self.block[self.at]
            self.at += 1
            value, shift, more = value + ((octet & 0x7F) << shift), shift + 7, octet & 0x80
        return value

    def text(self):
        coded = self.block[self.at] & 0x80
        length = self.number(7)
        data = self.block[self.at : self.at + length]
        self.at += length
        return unhuffman(data) if coded else data.decode("latin-1")


def field_block(fields):
    block = b""
    for field in fields:
        block += b"\0"
        for text in field:
            data = text.encode("latin-1")
            length, rest = (bytes([len(data)]), None) if len(data) < 127 else (b"\x7f", len(data) - 127)
            while rest is not None:
                length += bytes([rest & 0x7F | (0x80 if rest > 0x7F else 0)])
                rest = rest >> 7 if rest > 0x7F else None
            block += length + data
    return block


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Connection:
    """One side of a connection: gathers the frames of each stream into a message."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.fields, self.messages = reader, writer, FieldReader(), {}

    async def next_frame(self):
        head = await self.reader.readexactly(9)
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        return head[3], head[4], stream, await self.reader.readexactly(int.from_bytes(head[:3], "big"))

    async def message(self):
        """The next message that has ended: its stream, all its fields (trailers too) and its body."""
        while True:
            kind, flags, stream, payload = await self.next_frame()
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind == HEADERS:
                block = await self.whole_block(flags, payload)
                self.messages.setdefault(stream, ([], bytearray()))[0].extend(self.fields.read(block))
            elif kind == DATA and payload:
                self.messages[stream][1].extend(payload[1 : len(payload) - payload[0]] if flags & PADDED else payload)
                for window in (0, stream):
                    self.writer.write(frame(WINDOW, 0, window, len(payload).to_bytes(4, "big")))
            elif kind in (RESET, GOAWAY):
                raise ConnectionError("HTTP/2 frame %d %s" % (kind, payload.hex()))
            await self.writer.drain()
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                return (stream, *self.messages.pop(stream))

    async def whole_block(self, flags, payload):
        if flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        block = payload[5:] if flags & PRIORITY else payload
        while not flags & END_HEADERS:
            _, flags, _, payload = await self.next_frame()
            block += payload
        return block

    def send(self, stream, fields, body, trailers=()):
        self.writer.write(frame(HEADERS, END_HEADERS, stream, field_block(fields)))
        self.writer.write(frame(DATA, 0 if trailers else END_STREAM, stream, body))
        if trailers:
            self.writer.write(frame(HEADERS, END_HEADERS | END_STREAM, stream, field_block(trailers)))
