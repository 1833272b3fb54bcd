//! Local replies as bytes: the one place where a [`LocalReply`] becomes status, fields and body.
//!
//! Pages are nginx's to the byte, because monitors match on them (`routing.md` section 3).

use bytes::Bytes;
use http::StatusCode;

use crate::message::{Response, ResponseBody};
use crate::reply::LocalReply;
use crate::wire::encode::reason_phrase;
use crate::wire::{Fields, ResponseHead, Version};

/// What of the request shapes a local reply.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asker<'r> {
    /// `User-Agent`; Chrome and old Internet Explorer get nginx's padding.
    pub user_agent: Option<&'r str>,
    /// True when the request is gRPC (`content-type: application/grpc…`): errors travel as `grpc-status`.
    pub grpc: bool,
}

/// The answer for `reply`.
pub fn respond(reply: &LocalReply, asker: Asker<'_>) -> Response {
    let status = reply.status();
    if asker.grpc && (status.is_client_error() || status.is_server_error()) {
        return grpc_error(status);
    }
    let mut response = match reply {
        LocalReply::Redirect { status, location, .. } => redirect(*status, location, asker),
        LocalReply::Scripted { status, location, body } => {
            scripted(*status, location.as_deref(), body.as_ref(), asker)
        }
        LocalReply::Preflight => answer(StatusCode::NO_CONTENT, "text/plain charset=UTF-8", Bytes::new()),
        LocalReply::Healthz => answer(StatusCode::OK, "text/html", Bytes::new()),
        LocalReply::StubStatus => answer(StatusCode::OK, "text/plain", Bytes::new()),
        LocalReply::Unauthorized { challenges } => {
            let mut response = page(status, asker);
            for challenge in challenges {
                let _refused = response.head.fields.append("WWW-Authenticate", challenge.as_bytes());
            }
            response
        }
        LocalReply::CertificateMissing => {
            certificate_page("No required SSL certificate was sent", asker.user_agent)
        }
        LocalReply::CertificateInvalid => certificate_page("The SSL certificate error", asker.user_agent),
        LocalReply::CertificateUnauthorized => {
            answer(status, "text/html", Bytes::from_static(b"client certificate unauthorized"))
        }
        LocalReply::Limited { .. } if !has_page(status) => {
            let head = answer(status, "text/html", Bytes::new());
            without_type(head)
        }
        LocalReply::Overloaded { .. } => {
            let mut response = page(status, asker);
            put(&mut response.head.fields, "Retry-After", "1");
            response
        }
        _ => page(status, asker),
    };
    response.close = matches!(
        reply,
        LocalReply::BadRequest { .. }
            | LocalReply::BadBody { .. }
            | LocalReply::BodyTooLarge
            | LocalReply::Misdirected
    ) || matches!(
        // nginx closes such a connection and says nothing.
        reply, LocalReply::Scripted { status, .. } if status.as_u16() == 444
    );
    response
}

/// A plain answer of a content type.
pub fn answer(status: StatusCode, content_type: &str, body: Bytes) -> Response {
    let mut fields = Fields::with_capacity(64);
    put(&mut fields, "Content-Type", content_type);
    Response {
        head: ResponseHead { status, reason: None, version: Version::Http11, fields },
        body: if body.is_empty() { ResponseBody::Empty } else { ResponseBody::Full(body) },
        close: false,
        upgrade: None,
        trailers: None,
        guard: None,
    }
}

/// nginx's stock page of a status.
pub fn page(status: StatusCode, asker: Asker<'_>) -> Response {
    answer(status, "text/html", Bytes::from(page_text(status, asker.user_agent)))
}

/// True for a refusal that nginx has a page for; others it sends without body.
const fn has_page(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400..=406 | 408..=416 | 421 | 429 | 500..=505 | 507)
}

fn without_type(mut response: Response) -> Response {
    response.head.fields.remove("content-type");
    response
}

fn redirect(status: StatusCode, location: &str, asker: Asker<'_>) -> Response {
    // nginx writes the URL as body for the codes that carry no Location (vector `redirect-odd-codes`).
    match status.as_u16() {
        301 | 302 | 303 | 307 | 308 => {
            let mut response = page(status, asker);
            put(&mut response.head.fields, "Location", location);
            response
        }
        304 => Response { body: ResponseBody::Empty, ..answer(status, "text/html", Bytes::new()) },
        _ => answer(status, "text/html", Bytes::copy_from_slice(location.as_bytes())),
    }
}

fn scripted(
    status: StatusCode,
    location: Option<&str>,
    body: Option<&(Box<str>, Bytes)>,
    asker: Asker<'_>,
) -> Response {
    let mut response = match body {
        Some((kind, text)) => answer(status, kind, text.clone()),
        None => page(status, asker),
    };
    if matches!(status.as_u16(), 204 | 304) {
        response.head.fields.remove("content-type");
        response.body = ResponseBody::Empty;
    }
    if let Some(location) = location {
        put(&mut response.head.fields, "Location", location);
    }
    response
}

/// Status of a local error in gRPC's terms, as a trailers-only answer (gRPC over HTTP/2, "Responses"; mapping of
/// http-grpc-status-mapping.md).
fn grpc_error(status: StatusCode) -> Response {
    let code = match status.as_u16() {
        400 | 431 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        413 => "8",
        429 | 502 | 503 | 504 => "14",
        _ => "2",
    };
    let mut response = answer(StatusCode::OK, "application/grpc", Bytes::new());
    put(&mut response.head.fields, "grpc-status", code);
    put(&mut response.head.fields, "grpc-message", reason_phrase(status));
    response
}

fn put(fields: &mut Fields, name: &str, value: &str) {
    // A value that could split the head is left out rather than sent (`B-7`).
    let _refused = fields.set(name, value.as_bytes());
}

/// nginx's pages of its statuses 495 and 496, which go out as 400.
fn certificate_page(what: &str, user_agent: Option<&str>) -> Response {
    let status = StatusCode::BAD_REQUEST;
    let text = page_text(status, user_agent)
        .replacen("400 Bad Request</title>", &format!("400 {what}</title>"), 1)
        .replacen("<hr>", &format!("<center>{what}</center>\r\n<hr>"), 1);
    answer(status, "text/html", Bytes::from(text))
}

fn page_text(status: StatusCode, user_agent: Option<&str>) -> String {
    const PADDING: &str = "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";
    // nginx's pages say other words than its status lines here.
    let words = match status.as_u16() {
        302 => "Found",
        401 => "Authorization Required",
        _ => reason_phrase(status),
    };
    let title = format!("{} {words}", status.as_u16());
    let mut text = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    let padded = user_agent.is_some_and(|agent| agent.contains("Chrome/") || old_explorer(agent));
    if padded && status.as_u16() >= 400 {
        for _ in 0..6 {
            text.push_str(PADDING);
        }
    }
    text
}

/// MSIE before 7 and no Opera, as `ngx_http_msie_padding` knows it: any `MSIE ` that is not Opera.
fn old_explorer(agent: &str) -> bool {
    agent.contains("MSIE ") && !agent.contains("Opera")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::RedirectCause;

    fn body(response: &Response) -> &[u8] {
        match &response.body {
            ResponseBody::Full(bytes) => bytes,
            _ => b"",
        }
    }

    #[test]
    fn the_stock_404_page_is_nginx_s_146_bytes() {
        let response = respond(&LocalReply::NoRoute, Asker::default());
        assert_eq!(body(&response).len(), 146);
        assert_eq!(response.head.fields.get("content-type"), Some(&b"text/html"[..]));
        assert!(!response.head.fields.contains("server"));
    }

    #[test]
    fn faulty_client_certificates_get_nginx_s_pages() {
        let response = respond(&LocalReply::CertificateMissing, Asker::default());
        let expect = "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<center>No required SSL certificate was sent</center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
        assert_eq!((response.head.status.as_u16(), body(&response)), (400, expect.as_bytes()));
        let response = respond(&LocalReply::CertificateUnauthorized, Asker::default());
        assert_eq!(body(&response), b"client certificate unauthorized");
    }

    #[test]
    fn chrome_gets_the_padding_that_nginx_adds() {
        let asker = Asker { user_agent: Some("Mozilla/5.0 Chrome/120.0"), grpc: false };
        assert_eq!(body(&respond(&LocalReply::NoRoute, asker)).len(), 548);
    }

    #[test]
    fn odd_redirect_codes_send_the_url_as_body() {
        let reply = |code: u16| LocalReply::Redirect {
            status: StatusCode::from_u16(code).unwrap(),
            location: "https://x.test/".into(),
            cause: RedirectCause::Permanent,
        };
        for (code, location, text) in
            [(301, true, false), (308, true, false), (300, false, true), (304, false, false)]
        {
            let response = respond(&reply(code), Asker::default());
            assert_eq!(response.head.fields.contains("location"), location, "{code}");
            assert_eq!(body(&response) == b"https://x.test/", text, "{code}");
        }
    }

    #[test]
    fn a_limit_answers_with_any_status_and_a_page_where_nginx_has_one() {
        for (code, text) in [(503, true), (429, true), (420, false), (418, false), (599, false)] {
            let status = StatusCode::from_u16(code).unwrap();
            let response = respond(&LocalReply::Limited { status, limit: "requests" }, Asker::default());
            assert_eq!(response.head.status, status);
            assert_eq!(
                (!body(&response).is_empty(), response.head.fields.contains("content-type")),
                (text, text)
            );
        }
    }

    #[test]
    fn a_location_that_would_split_the_head_is_not_sent() {
        let reply = LocalReply::Redirect {
            status: StatusCode::FOUND,
            location: "https://x.test/\r\nSet-Cookie: a=b".into(),
            cause: RedirectCause::Permanent,
        };
        let response = respond(&reply, Asker::default());
        assert!(!response.head.fields.contains("location") && !response.head.fields.contains("set-cookie"));
    }

    #[test]
    fn grpc_callers_get_a_trailers_only_answer() {
        let asker = Asker { user_agent: None, grpc: true };
        let response = respond(&LocalReply::NoEndpoints, asker);
        assert_eq!(response.head.status, StatusCode::OK);
        assert_eq!(response.head.fields.get("grpc-status"), Some(&b"14"[..]));
    }
}
