//! One lane: a proxy, its backend, and the verdicts on what both ends saw.

use std::time::Duration;

use regex::bytes::Regex;
use tokio::time::sleep;

use crate::Travel;
use crate::backend::{Backend, Received, Script};
use crate::case::{Case, Kind};
use crate::client::{Answer, Client, answers};
use crate::frames::Seen;
use crate::process::{self, Proxy};

/// Nothing more happens for so long: the case is at rest.
const REST: Duration = Duration::from_millis(1_000);
/// What a late request needs to arrive.
const GRACE: Duration = Duration::from_millis(40);

/// A proxy with a backend of its own.
pub(crate) struct Lane {
    travel: Travel,
    proxy: Proxy,
    backend: Backend,
}

impl Lane {
    /// Starts both.
    pub(crate) async fn start(travel: Travel) -> Self {
        let (backend, port) = Backend::start().await;
        let proxy = process::start(port).await;
        Self { travel, proxy, backend }
    }

    /// Judges one case.
    pub(crate) async fn judge(&self, kind: Kind, case: &Case) -> Result<(), String> {
        match kind {
            Kind::Http1 => self.http1(case).await,
            Kind::Http2 => self.http2(case).await,
            Kind::Response => self.response(case).await,
        }
    }

    /// The proxy serves an ordinary request.
    pub(crate) async fn is_alive(&self) -> bool {
        self.backend.begin(None, false);
        let Ok(mut client) = self.connect(b"http/1.1").await else { return false };
        client.send(b"GET /alive HTTP/1.1\r\nHost: a.test\r\n\r\n", Travel::Write).await;
        client
            .until(5 * REST, |data, closed| answers(data, closed, &[]).iter().any(|answer| answer.complete))
            .await;
        answers(&client.received, client.closed, &[]).first().is_some_and(|answer| answer.status == 200)
    }

    async fn connect(&self, protocol: &[u8]) -> Result<Client, String> {
        let port = if self.travel == Travel::Tls { self.proxy.https } else { self.proxy.http };
        Client::connect(port, self.travel, protocol).await
    }

    async fn http1(&self, case: &Case) -> Result<(), String> {
        let raw = case.bytes().unwrap_or_default();
        let either = case.expected == "accept" || case.also_ok.as_deref() == Some("accept");
        let wanted = if either { case.n.unwrap_or(1) } else { 1 } + usize::from(case.then.is_some());
        let heads = [raw.starts_with(b"HEAD ")];
        self.backend.begin(None, case.one_upstream_req_per_conn);
        let mut client = self.connect(b"http/1.1").await?;
        client.send(&raw, self.travel).await;
        client
            .until(REST, |data, closed| {
                let seen = answers(data, closed, &heads);
                let whole = seen.iter().filter(|answer| answer.complete).count();
                whole >= wanted || seen.iter().any(|answer| answer.complete && answer.status >= 400)
            })
            .await;
        let first = answers(&client.received, client.closed, &heads).first().map(|answer| answer.status);
        if case.conn_close || case.then.is_some() || first.is_some_and(|status| status >= 400) {
            client.until(REST, |_, closed| closed).await;
        }
        sleep(GRACE).await;
        let closed = client.closed;
        let seen = answers(&client.received, closed, &heads);
        drop(client);
        if case.incomplete || case.streamed {
            sleep(GRACE).await;
        }
        self.backend.look(|received| {
            let refused = || rejected(case, &seen, closed, received);
            let served = || accepted(case, self.travel, &seen, closed, received);
            let (first, second) =
                if case.expected == "reject" { (refused(), served()) } else { (served(), refused()) };
            let other = if case.expected == "reject" { "accept" } else { "reject" };
            match (first, second) {
                (Err(_), Ok(())) if case.also_ok.as_deref() == Some(other) => Ok(()),
                (verdict, _) => verdict,
            }
        })
    }

    async fn response(&self, case: &Case) -> Result<(), String> {
        let hold = matches!(&*case.name, "r-extra-bytes" | "r-204-body" | "r-head-body");
        for hold in [false, true].into_iter().take(1 + usize::from(hold)) {
            let slowly = self.travel == Travel::Bytes;
            self.backend.begin(Some(Script { answer: case.bytes(), slowly, hold }), false);
            let heads = [case.method == "HEAD", false];
            let mut client = self.connect(b"http/1.1").await?;
            let head = format!("{} /r HTTP/1.1\r\nHost: a.test\r\n\r\n", case.method);
            client.send(head.as_bytes(), Travel::Write).await;
            let settled = |data: &[u8], closed| {
                let seen = answers(data, closed, &heads);
                seen.iter().any(|answer| answer.complete || (answer.status == 0 && !answer.cut_head))
            };
            client.until(3 * REST, settled).await;
            let seen = answers(&client.received, client.closed, &heads);
            let mut second = None;
            if case.expected == "accept"
                && !client.closed
                && seen.first().is_some_and(|answer| answer.complete)
            {
                self.backend.behave();
                client.send(b"GET /after HTTP/1.1\r\nHost: a.test\r\n\r\n", Travel::Write).await;
                let whole =
                    |data: &[u8], closed| answers(data, closed, &heads).iter().filter(|a| a.complete).count();
                client.until(REST, |data, closed| whole(data, closed) > 1).await;
                second = answers(&client.received, client.closed, &heads).into_iter().nth(1);
            }
            let seen = answers(&client.received, client.closed, &heads);
            judge_response(case, &seen, second.as_ref(), &client)?;
        }
        Ok(())
    }

    async fn http2(&self, case: &Case) -> Result<(), String> {
        let raw = case.bytes().unwrap_or_default();
        self.backend.begin(None, false);
        let mut client = self.connect(b"h2").await?;
        client.send(&raw, self.travel).await;
        let mut seen = Seen::default();
        let ends_itself = matches!(&*case.expected, "goaway" | "any");
        client
            .until(REST, |data, _| {
                seen.feed(data);
                let over = seen.goaway.is_some();
                let answered = !seen.reset.is_empty() || !seen.ended.is_empty();
                over || (!ends_itself && answered)
            })
            .await;
        sleep(GRACE).await;
        seen.feed(&client.received);
        let closed = client.closed;
        drop(client);
        let verdict = self.backend.look(|received| {
            let whole: Vec<&Received> = received.iter().filter(|request| request.complete).collect();
            if let Some(bad) = whole.iter().find_map(|request| request.bad.first()) {
                return Err(format!("malformed at the backend: {bad}"));
            }
            match &*case.expected {
                "any" => Ok(()),
                "accept" if whole.len() != 1 => Err(format!("the backend saw {} requests", whole.len())),
                "accept" if seen.status.values().any(|status| (200..300).contains(status)) => {
                    let trusted = String::from_utf8_lossy(&whole[0].raw).to_ascii_lowercase();
                    let trusted = trusted.contains("x-forwarded-proto: https") && self.travel != Travel::Tls;
                    if trusted { Err(":scheme was taken for the socket's".into()) } else { Ok(()) }
                }
                "accept" => Err(format!("no 2xx: {seen:?}")),
                "goaway" if seen.goaway.is_none() && !closed => {
                    Err(format!("neither GOAWAY nor close: {seen:?}"))
                }
                "goaway" if whole.len() > if raw.len() < 5_000 { 1 } else { 400 } => {
                    Err(format!("{} requests reached the backend", whole.len()))
                }
                "goaway" => Ok(()),
                _ if !whole.is_empty() => Err(format!("a request reached the backend: {}", whole[0].line)),
                _ if seen.status.values().any(|status| *status < 400 || matches!(status, 502 | 504)) => {
                    Err(format!("status {:?}", seen.status))
                }
                _ if seen.status.is_empty() && seen.reset.is_empty() && seen.goaway.is_none() && !closed => {
                    Err("neither an error nor a reset nor a close".into())
                }
                _ => Ok(()),
            }
        });
        verdict?;
        if case.expected == "any" && !self.is_alive().await {
            return Err("the proxy does not serve afterwards".into());
        }
        Ok(())
    }
}

fn rejected(case: &Case, seen: &[Answer], closed: bool, received: &[Received]) -> Result<(), String> {
    if let Some(request) = received.iter().find(|request| request.complete) {
        return Err(format!("a whole request reached the backend: {}", request.line));
    }
    let started = received.iter().find(|request| request.has_head);
    if let Some(request) = started.filter(|_| !case.streamed && !case.incomplete) {
        return Err(format!("a head reached the backend: {}", request.line));
    }
    let Some(first) = seen.first().filter(|first| !first.cut_head) else {
        let ended = closed || case.incomplete;
        return if ended { Ok(()) } else { Err("neither an answer nor a close".into()) };
    };
    match first.status {
        502 | 504 => Err(format!("status {}: the client's fault is blamed on the backend", first.status)),
        0 => Err(format!("the answer is no HTTP: {:?}", String::from_utf8_lossy(&first.body))),
        1..400 => Err(format!("status {}", first.status)),
        _ if !closed => Err(format!("status {}, but the connection stays open", first.status)),
        _ if seen.iter().any(|answer| (1..400).contains(&answer.status)) => {
            Err("an answer after the refusal".into())
        }
        _ => Ok(()),
    }
}

fn accepted(
    case: &Case,
    travel: Travel,
    seen: &[Answer],
    closed: bool,
    received: &[Received],
) -> Result<(), String> {
    let wanted = case.n.unwrap_or(1);
    let finals: Vec<&Answer> = seen.iter().filter(|answer| answer.status > 0).collect();
    if finals.len() < wanted {
        return Err(format!("{} answers, {wanted} wanted", finals.len()));
    }
    for answer in &finals[..wanted] {
        if !(200..300).contains(&answer.status)
            || answer.all("x-probe-backend").is_empty()
            || !answer.complete
        {
            return Err(format!("status {}, whole: {}", answer.status, answer.complete));
        }
    }
    if finals.get(wanted).is_some_and(|answer| answer.status < 400) {
        return Err(format!("{} answers, {wanted} wanted", finals.len()));
    }
    if (case.then.is_some() || case.conn_close) && !closed {
        return Err("the connection stays open".into());
    }
    let whole: Vec<&Received> = received.iter().filter(|request| request.complete).collect();
    if whole.len() != wanted || received.len() != wanted {
        return Err(format!(
            "the backend saw {} of {wanted} requests, {} in all",
            whole.len(),
            received.len()
        ));
    }
    for request in received {
        if let Some(bad) = request.bad.first() {
            return Err(format!("malformed at the backend: {bad}"));
        }
        if request.pipelined {
            return Err("bytes went up before the answer".into());
        }
    }
    let all: Vec<u8> = received.iter().flat_map(|request| request.raw.iter().copied()).collect();
    if case.upstream_must.as_ref().is_some_and(|wanted| !pattern(wanted, travel).is_match(&all)) {
        return Err(format!("upstream_must does not match {:?}", String::from_utf8_lossy(&all)));
    }
    if case.upstream_must_not.as_ref().is_some_and(|unwanted| pattern(unwanted, travel).is_match(&all)) {
        return Err(format!("upstream_must_not matches {:?}", String::from_utf8_lossy(&all)));
    }
    if case.proxy_sets.as_ref().is_some_and(|name| !whole[0].has(name)) {
        return Err(format!("the backend did not get {:?}", case.proxy_sets));
    }
    if case.name == "expect-http10" && finals[0].interim > 0 {
        return Err("100 for an HTTP/1.0 client".into());
    }
    Ok(())
}

/// Over TLS scheme and port are https and 443 by right; there the other word would be the spoof.
fn pattern(text: &str, travel: Travel) -> Regex {
    let text = match travel {
        Travel::Tls => text
            .replace("x-forwarded-proto: https", "x-forwarded-proto: http\\r")
            .replace("x-forwarded-port: 443|", ""),
        Travel::Write | Travel::Bytes => text.to_owned(),
    };
    // The corpus speaks Python.
    let text = text.replace(r"\0", r"\x00");
    Regex::new(&format!("(?-u){text}")).unwrap()
}

fn judge_response(
    case: &Case,
    seen: &[Answer],
    second: Option<&Answer>,
    client: &Client,
) -> Result<(), String> {
    let first = seen.first();
    let refused = || match first {
        None if client.closed => Ok(()),
        None => Err("neither an answer nor a close".to_owned()),
        Some(first) if first.interim > 64 => Err(format!("{} interim answers passed on", first.interim)),
        Some(first) if matches!(first.status, 500 | 502 | 503 | 504) => Ok(()),
        Some(first) if first.status != 101 && !first.complete && client.closed => Ok(()),
        Some(first) => Err(format!("passed on as {}, whole: {}", first.status, first.complete)),
    };
    let passed = || {
        let Some(first) = first.filter(|first| first.status > 0) else { return Err("no answer".to_owned()) };
        let raw = case.bytes().unwrap_or_default();
        let statuses = Regex::new(r"(?m)^HTTP/1\.[01] ([2-9]\d\d)").unwrap();
        let status =
            statuses.captures(&raw).and_then(|found| std::str::from_utf8(found.get(1)?.as_bytes()).ok());
        let status: u16 = status.map_or(200, |status| status.parse().unwrap());
        let empty = matches!(&*case.name, "r-204-body" | "r-304-cl" | "r-head-cl" | "r-head-body");
        let body: &[u8] = if empty { b"" } else { b"ok" };
        if first.status != status || !first.complete || first.body != body {
            return Err(format!("{first:?} for {status} {body:?}"));
        }
        if client.received.windows(6).any(|window| window == b"POISON") {
            return Err("left-over bytes reached the client".to_owned());
        }
        let (lengths, codings) = (first.all("content-length").len(), first.all("transfer-encoding").len());
        if lengths + codings > 1 {
            return Err("ambiguous framing towards the client".to_owned());
        }
        if case.name == "r-conn-hop" && !first.all("x-hop").is_empty() {
            return Err("a nominated field was passed on".to_owned());
        }
        match second {
            Some(second) if second.status != 200 || !second.body.starts_with(b"probe-") => {
                Err(format!("the next request got {second:?}"))
            }
            _ => Ok(()),
        }
    };
    if case.expected == "reject" {
        return refused().or_else(|reason| if case.name == "r-cl-te" { passed() } else { Err(reason) });
    }
    let may_refuse = matches!(&*case.name, "r-obsfold" | "r-space-colon" | "r-204-body");
    passed().or_else(|reason| match first {
        Some(first) if may_refuse && first.status == 502 => Ok(()),
        _ => Err(reason),
    })
}
