//! The backend of a lane: a strict reader that keeps every byte it got and answers each whole request, or what the case
//! says.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// A request as it arrived.
#[derive(Debug, Default)]
pub(crate) struct Received {
    case: usize,
    pub(crate) raw: Vec<u8>,
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    /// The head arrived.
    pub(crate) has_head: bool,
    pub(crate) complete: bool,
    /// What is malformed about it.
    pub(crate) bad: Vec<String>,
    /// More bytes came before it was answered.
    pub(crate) pipelined: bool,
}

impl Received {
    fn all(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// A field is there and not empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all(name).iter().any(|value| !value.is_empty())
    }
}

/// What is answered instead of 200.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// `None`: a reset.
    pub(crate) answer: Option<Vec<u8>>,
    /// One byte after the other.
    pub(crate) slowly: bool,
    /// Stay open for a moment afterwards.
    pub(crate) hold: bool,
}

#[derive(Default)]
struct State {
    case: usize,
    script: Option<Script>,
    wait_for_more: bool,
    received: Vec<Received>,
    answered: u64,
}

/// A recording backend.
#[derive(Clone, Default)]
pub(crate) struct Backend(Rc<RefCell<State>>);

impl Backend {
    /// Starts one on a free port.
    pub(crate) async fn start() -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let backend = Self::default();
        let serving = backend.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let serving = serving.clone();
                tokio::task::spawn_local(async move {
                    // The end of a connection, however it comes, is no news.
                    let _ended = serving.serve(stream).await;
                });
            }
        });
        (backend, port)
    }

    /// Forgets everything; what still arrives of the case before is not counted.
    pub(crate) fn begin(&self, script: Option<Script>, wait_for_more: bool) {
        let mut state = self.0.borrow_mut();
        state.case += 1;
        state.received.clear();
        state.script = script;
        state.wait_for_more = wait_for_more;
    }

    /// The next requests are answered 200 again.
    pub(crate) fn behave(&self) {
        self.0.borrow_mut().script = None;
    }

    /// Looks at what arrived.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.0.borrow().received)
    }

    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let Some(length) = self.head(&mut stream, &mut buffer).await else {
                if buffer.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                    let cut = vec!["cut in the head".to_owned()];
                    self.begin_request(Received { raw: buffer, bad: cut, ..Received::default() });
                }
                return None;
            };
            let head: Vec<u8> = buffer.drain(..length).collect();
            let mut request = Received { raw: head.clone(), has_head: true, ..Received::default() };
            let framing = judge_head(&mut request, &head);
            let closes = closes(&request);
            let head_only = request.line.starts_with("HEAD ");
            let place = self.begin_request(request);
            self.body(place, framing, &mut stream, &mut buffer).await?;
            let (script, wait) = {
                let state = self.0.borrow();
                (state.script.clone(), state.wait_for_more)
            };
            if wait {
                sleep(Duration::from_millis(30)).await;
                let mut part = vec![0; 4096];
                if let Ok(Ok(count)) = timeout(Duration::from_millis(20), stream.read(&mut part)).await {
                    buffer.extend_from_slice(&part[..count]);
                }
            }
            let pipelined = !buffer.is_empty();
            self.with(place, |request| {
                request.complete = true;
                request.pipelined = pipelined;
            });
            if let Some(script) = script {
                return act(&mut stream, script).await;
            }
            let number = {
                let mut state = self.0.borrow_mut();
                state.answered += 1;
                state.answered
            };
            let body = format!("probe-{number}\n");
            let length = body.len();
            let body = if head_only { String::new() } else { body };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nX-Probe-Backend: {number}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.ok()?;
            if closes {
                return Some(());
            }
        }
    }

    /// Length of the next head once all of it is in the buffer; empty lines before it are dropped.
    async fn head(&self, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
        loop {
            let blank = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if blank > 1 {
                buffer.drain(..blank);
            }
            if let Some(end) = end_of_head(buffer) {
                return Some(end);
            }
            if !more(stream, buffer).await {
                return None;
            }
        }
    }

    async fn body(
        &self,
        place: (usize, usize),
        framing: Framing,
        stream: &mut TcpStream,
        buffer: &mut Vec<u8>,
    ) -> Option<()> {
        let Framing::Chunked = framing else {
            let Framing::Length(length) = framing else { return Some(()) };
            return self.take(place, length, stream, buffer).await.map(|_| ());
        };
        loop {
            let line = self.line(place, stream, buffer).await?;
            let digits = line.trim_end_matches('\r');
            if !line.ends_with('\r')
                || digits.is_empty()
                || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            {
                self.note(place, format!("bad chunk line {line:?}"));
            }
            let size = usize::from_str_radix(digits.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                break;
            }
            let data = self.take(place, size + 2, stream, buffer).await?;
            if !data.ends_with(b"\r\n") {
                self.note(place, "bad end of a chunk".into());
            }
        }
        loop {
            let line = self.line(place, stream, buffer).await?;
            match line.strip_suffix('\r') {
                Some("") => return Some(()),
                Some(field) if field.split_once(':').is_some_and(|(name, _)| is_token(name)) => {}
                _ => self.note(place, format!("bad trailer {line:?}")),
            }
        }
    }

    async fn take(
        &self,
        place: (usize, usize),
        length: usize,
        stream: &mut TcpStream,
        buffer: &mut Vec<u8>,
    ) -> Option<Vec<u8>> {
        while buffer.len() < length {
            if !more(stream, buffer).await {
                return None;
            }
        }
        let taken: Vec<u8> = buffer.drain(..length).collect();
        self.with(place, |request| request.raw.extend_from_slice(&taken));
        Some(taken)
    }

    /// A line without its LF.
    async fn line(
        &self,
        place: (usize, usize),
        stream: &mut TcpStream,
        buffer: &mut Vec<u8>,
    ) -> Option<String> {
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.take(place, end + 1, stream, buffer).await?;
                return Some(latin1(&line[..end]));
            }
            if !more(stream, buffer).await {
                return None;
            }
        }
    }

    fn begin_request(&self, mut request: Received) -> (usize, usize) {
        let mut state = self.0.borrow_mut();
        request.case = state.case;
        state.received.push(request);
        (state.case, state.received.len() - 1)
    }

    fn with(&self, place: (usize, usize), change: impl FnOnce(&mut Received)) {
        let mut state = self.0.borrow_mut();
        if let Some(request) = state.received.get_mut(place.1).filter(|request| request.case == place.0) {
            change(request);
        }
    }

    fn note(&self, place: (usize, usize), what: String) {
        self.with(place, |request| request.bad.push(what));
    }
}

async fn act(stream: &mut TcpStream, script: Script) -> Option<()> {
    let Some(answer) = script.answer else {
        stream.set_zero_linger().ok()?;
        return None;
    };
    if script.slowly && answer.len() <= 4096 {
        for byte in answer {
            stream.write_all(&[byte]).await.ok()?;
            tokio::task::yield_now().await;
        }
    } else {
        stream.write_all(&answer).await.ok()?;
    }
    if script.hold {
        sleep(Duration::from_millis(500)).await;
    }
    Some(())
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut part = vec![0; 16 * 1024];
    match stream.read(&mut part).await {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            buffer.extend_from_slice(&part[..count]);
            true
        }
    }
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

fn end_of_head(buffer: &[u8]) -> Option<usize> {
    let lines = buffer.split_inclusive(|byte| *byte == b'\n');
    let mut end = 0;
    for line in lines {
        end += line.len();
        if matches!(line, b"\r\n" | b"\n") {
            return Some(end);
        }
    }
    None
}

/// Takes a head apart and notes whatever no strict reader would take.
fn judge_head(request: &mut Received, head: &[u8]) -> Framing {
    let text = latin1(head);
    let unusual = text.replace("\r\n", "");
    if !text.ends_with("\r\n\r\n") || unusual.contains(['\r', '\n', '\0']) {
        request.bad.push("line ends of the head are not CRLF".into());
    }
    let mut lines = text.trim_end_matches(['\r', '\n']).split("\r\n");
    request.line = lines.next().unwrap_or_default().to_owned();
    let words: Vec<&str> = request.line.split(' ').collect();
    let sound = matches!(words[..], [method, target, "HTTP/1.0" | "HTTP/1.1"]
        if is_token(method) && !target.is_empty() && target.bytes().all(|byte| byte > b' '));
    if !sound {
        request.bad.push(format!("bad request line {:?}", request.line));
    }
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if !line.contains(':') || !is_token(name) {
            request.bad.push(format!("bad field line {line:?}"));
        }
        request.fields.push((name.trim().to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let (hosts, codings, lengths) =
        (request.all("host").len(), request.all("transfer-encoding"), request.all("content-length"));
    let digits =
        |text: &&str| !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
    let chunked = codings.iter().any(|coding| coding.eq_ignore_ascii_case("chunked"));
    let length = lengths.first().and_then(|length| length.parse().ok());
    let mut bad = Vec::new();
    if hosts != 1 && !request.line.ends_with("1.0") {
        bad.push(format!("{hosts} Host fields"));
    }
    if !codings.is_empty() && !lengths.is_empty() {
        bad.push("both framings".into());
    }
    if lengths.len() > 1 || !lengths.iter().all(digits) {
        bad.push(format!("bad Content-Length {lengths:?}"));
    }
    if codings.len() > 1 || (codings.len() == 1 && !chunked) {
        bad.push(format!("bad Transfer-Encoding {codings:?}"));
    }
    request.bad.append(&mut bad);
    match length {
        _ if chunked => Framing::Chunked,
        Some(length) if length > 0 => Framing::Length(length),
        _ => Framing::None,
    }
}

fn closes(request: &Received) -> bool {
    let connection = request.all("connection").join(",").to_ascii_lowercase();
    connection.contains("close") || (request.line.ends_with("HTTP/1.0") && !connection.contains("keep-alive"))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// One character for each byte.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
