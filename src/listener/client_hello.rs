//! The server name in a TLS ClientHello (RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3). Pure: bytes in, verdict
//! out. Reads no more than it needs: versions and algorithms are the backend's business, so greetings that our own TLS
//! would refuse are understood too. Asked for hosts with `ssl-passthrough` (`security.md` E-10).

/// Longest greeting that is looked at, records and all.
pub const LONGEST: usize = 16 * 1024;
/// Content type of handshake records.
const HANDSHAKE: u8 = 22;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Extension number of the server name.
const SERVER_NAME: u16 = 0;

/// Verdict over the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parse {
    /// The greeting is not complete.
    Need,
    /// A whole greeting with this server name (lower case, without final dot), if it has one.
    Done(Option<String>),
    /// No ClientHello.
    Other,
}

/// Judges the start of a connection.
pub fn parse(bytes: &[u8]) -> Parse {
    match hello(bytes) {
        Ok(name) => Parse::Done(name),
        Err(Fault::Short) => Parse::Need,
        Err(Fault::Other) => Parse::Other,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The bytes end too soon.
    Short,
    /// The bytes say something else.
    Other,
}

/// A part of the greeting that is read from its start.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes, most significant first.
    fn number(&mut self, length: usize) -> Result<usize, Fault> {
        Ok(self.take(length)?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
    }

    /// A list with its length before it.
    fn list(&mut self, length_bytes: usize) -> Result<Self, Fault> {
        let length = self.number(length_bytes)?;
        self.take(length).map(Self)
    }
}

fn hello(bytes: &[u8]) -> Result<Option<String>, Fault> {
    let message = handshake(bytes)?;
    // The message is whole from here on: what ends too soon in it is broken.
    fields(&message).map_err(|_| Fault::Other)
}

/// The first handshake message, put together from as many records as it lies in.
fn handshake(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut rest = Bytes(bytes);
    let mut message = Vec::new();
    loop {
        // Judged byte by byte, so that what is no TLS is known at once.
        if rest.take(1)? != [HANDSHAKE] || rest.take(1)? != [3] {
            return Err(Fault::Other);
        }
        rest.take(1)?;
        let length = rest.number(2)?;
        if length == 0 || length > LONGEST {
            return Err(Fault::Other);
        }
        let here = rest.0.get(..length).unwrap_or(rest.0);
        message.extend_from_slice(here);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Fault::Other);
        }
        let mut start = Bytes(&message);
        if start.take(1).is_ok()
            && let Ok(whole) = start.number(3)
        {
            if whole > LONGEST {
                return Err(Fault::Other);
            }
            if let Ok(body) = start.take(whole) {
                return Ok(body.to_vec());
            }
        }
        rest.take(length)?;
    }
}

fn fields(message: &[u8]) -> Result<Option<String>, Fault> {
    let mut rest = Bytes(message);
    rest.take(2 + 32)?;
    rest.list(1)?;
    rest.list(2)?;
    rest.list(1)?;
    if rest.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = rest.list(2)?;
    while !extensions.0.is_empty() {
        let number = extensions.number(2)?;
        let mut content = extensions.list(2)?;
        if number != usize::from(SERVER_NAME) {
            continue;
        }
        let mut names = content.list(2)?;
        while !names.0.is_empty() {
            let kind = names.number(1)?;
            let name = names.list(2)?;
            if kind == 0 {
                let name = std::str::from_utf8(name.0).map_err(|_| Fault::Other)?;
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                return Ok((!name.is_empty()).then_some(name));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_length(length_bytes: usize, content: &[u8]) -> Vec<u8> {
        let mut out = content.len().to_be_bytes()[8 - length_bytes..].to_vec();
        out.extend(content);
        out
    }

    /// The body of a greeting with these extensions.
    fn body(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![3, 3];
        out.extend([7; 32]);
        out.extend(with_length(1, &[1; 32]));
        out.extend(with_length(2, &[0x13, 0x01, 0xda, 0xda]));
        out.extend(with_length(1, &[0]));
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(number, content)| [number.to_be_bytes().to_vec(), with_length(2, content)].concat())
            .collect();
        out.extend(with_length(2, &extensions));
        out
    }

    fn sni(name: &str) -> (u16, Vec<u8>) {
        (0, with_length(2, &[vec![0], with_length(2, name.as_bytes())].concat()))
    }

    /// In records of at most so many bytes.
    fn records(body: &[u8], most: usize) -> Vec<u8> {
        let message = [vec![1], with_length(3, body)].concat();
        message.chunks(most).flat_map(|part| [vec![22, 3, 1], with_length(2, part)].concat()).collect()
    }

    fn check(bytes: &[u8], name: Option<&str>) {
        let done = Parse::Done(name.map(str::to_owned));
        assert_eq!(parse(bytes), done);
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Parse::Need, "cut at {cut} of {}", bytes.len());
        }
        // What comes behind is not looked at.
        assert_eq!(parse(&[bytes, b"\x17\x03\x03\0\x01x"].concat()), done);
    }

    #[test]
    fn the_name_is_found_at_any_segmentation_and_over_any_number_of_records() {
        // Unknown extensions before it, one of them as large as a post-quantum key share.
        let greeting = body(&[
            (0x2a2a, vec![0]),
            (51, vec![9; 1300]),
            sni("App.Example.TEST."),
            (16, vec![0, 3, 2, b'h', b'2']),
        ]);
        check(&records(&greeting, 16_000), Some("app.example.test"));
        for most in [1, 3, 100, 700] {
            check(&records(&greeting, most), Some("app.example.test"));
        }
    }

    #[test]
    fn a_greeting_without_name_is_whole_too() {
        check(&records(&body(&[(51, vec![9; 30])]), 16_000), None);
        check(&records(&body(&[sni("")]), 16_000), None);
        let mut old = vec![3, 1];
        old.extend([7; 32]);
        old.extend([0, 0, 2, 0, 47, 1, 0]);
        check(&records(&old, 16_000), None);
    }

    #[test]
    fn everything_else_is_told_apart_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x15\x03\x01\x00\x02\x02\x28",
            b"\x16\x02\x01",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        ] {
            assert_eq!(parse(bytes), Parse::Other, "{bytes:?}");
        }
        // Lengths inside that do not add up.
        let mut broken = body(&[sni("a.test")]);
        let at = broken.len() - 7;
        broken[at] = 200;
        assert_eq!(parse(&records(&broken, 16_000)), Parse::Other);
        let cut = body(&[sni("a.test")]);
        assert_eq!(parse(&records(&cut[..cut.len() - 3], 16_000)), Parse::Other);
        assert_eq!(
            parse(&records(
                &body(&[(0, with_length(2, &[vec![0], with_length(2, &[0xff, 0xfe])].concat()))]),
                999
            )),
            Parse::Other
        );
    }
}
