//! Inputs for targets: seeds from the corpora and from a few lines here, and the same seeds changed. The same every time.
//! Used by `smoke` and, by its path, by `tests/proxy_fuzz.rs` of the product.

/// xorshift64*: enough for mutations, and the same every time.
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap_or(0) % end.max(1)
    }
}

/// Bytes that parsers treat in a way of their own.
const DICTIONARY: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"%2e",
    b"%2F",
    b"%00",
    b"..",
    b"//",
    b"#",
    b"?",
    b"\\",
    b"@",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Host: a.test\r\n",
    b"0\r\n\r\n",
    b";a=b",
    b"\xff",
    b"\x7f",
    b"(a+)+$",
    b"(?=",
    b"\\1",
    b"$1",
    b"=",
    b"\x01",
    b"true",
    b"-1",
    b"99999999999999999999",
    b"[::1]",
];

/// One of the seeds, changed in a few places.
pub fn mutated(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(4) {
        let at = chance.below(input.len() + 1);
        match chance.below(6) {
            0 if at < input.len() => input[at] ^= 1 << chance.below(8),
            1 if at < input.len() => drop(input.remove(at)),
            2 => drop(input.splice(at..at, DICTIONARY[chance.below(DICTIONARY.len())].iter().copied())),
            3 => input.truncate(at),
            4 => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.insert(at, u8::try_from(chance.below(256)).unwrap_or(0)),
        }
    }
    input
}

/// The `raw:` lines of the corpora (double-quoted YAML with the escapes they use) and one line for each grammar.
pub fn seeds() -> Vec<Vec<u8>> {
    let corpora = [
        include_str!("../../tests/data/malformed-h1.yaml"),
        include_str!("../../tests/data/malformed-responses.yaml"),
    ];
    let quoted = corpora.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let text = line.trim().strip_prefix("raw: \"")?.strip_suffix('"')?;
        Some(unescaped(text))
    });
    let own: [&[u8]; 27] = [
        b"/a/./b/../c%2fd?x=1",
        b"a.test:8080",
        b"[2001:db8::1]:443",
        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"1;a=\"b\"\r\nx\r\n0\r\n\r\n",
        b"/api(/|$)(.*)\0/api/v1",
        b"/a/(?<name>[a-z]+)/(\\d+)\0/b/abc/12",
        b"/api(/|$)(.*)\0/$2\0/api/v1/x",
        b"proxy-body-size=8m\x01rewrite-target=/$1\x01whitelist-source-range=10.0.0.0/8\x01canary=true",
        b"ssl-redirect=false\x01proxy-read-timeout=5\x01server-alias=b.test,c.test\x01affinity=cookie",
        b"keep-alive=75\x01proxy-real-ip-cidr=10.0.0.0/8\x01log-format-upstream=$remote_addr\x01use-http2=true",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb",
        b"$remote_addr [$time_local] \"$request\" $http_x $cookie_a $arg_b {json}\0a\x1b[31m\"\\\r\n\xff",
        b"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: &a {ports: [{port: 80}]}\n---\nkind: List\nitems: [*a]\n",
        b"GET /a?b=c HTTP/1.1\r\nHost: a.test:80\r\nX-A:\tb c \r\nX-B:\r\nConnection: close\r\n\r\n",
        b"x-name\0a value",
        b"auth-type=basic\x01auth-secret=users\x01whitelist-source-range=10.0.0.0/8\0GET /x HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic YTpi\r\nCookie: route=1; a=b\r\n\r\n",
        b"use-regex=true\x01rewrite-target=/$1\x01affinity=cookie\x01session-cookie-name=route\x01canary=true\0GET /a%2fb?c=d HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"if ($http_x ~* \"^(a+)$\") { return 403; } set $a $1; add_header X-A $a always; rewrite ^/(.*)$ /$1/x break;\0GET /x HTTP/1.1\r\nHost: a.test\r\nX: aaa\r\n\r\n",
        b"203.0.113.7, 10.0.0.1, [2001:db8::1]:80, unknown\x0010.0.0.0/8,192.168.0.0/16",
        b"default/b:80:PROXY:PROXY",
        b"a:$apr1$abcdefgh$0123456789012345678901\nb:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\nc:$2y$05$abcdefghijklmnopqrstuu\n",
        b"\x16\x03\x01\x00\x31\x01\x00\x00\x2d\x03\x03abcdefghijklmnopqrstuvwxyz012345\0\0\x02\x13\x01\x01\0\0\x02\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0abcdefgh",
        b"\x11\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x0c\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
        b"\x2a\x3f\xe1\x1f\x82\x87\x84\x01\x06a.test\x40\x03x-a\x011\x60\x03a=1\x60\x03b=2\x00\x02te\x08trailers\x04\xbe\xbf\xc0\x20",
    ];
    quoted.chain(own.iter().map(|seed| seed.to_vec())).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let escaped = if char == '\\' { chars.next() } else { None };
        match escaped {
            None => out.push(u8::try_from(u32::from(char)).unwrap_or(b'?')),
            Some('r') => out.push(b'\r'),
            Some('n') => out.push(b'\n'),
            Some('t') => out.push(b'\t'),
            Some('0') => out.push(0),
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            Some(other) => out.push(u8::try_from(u32::from(other)).unwrap_or(b'?')),
        }
    }
    out
}
