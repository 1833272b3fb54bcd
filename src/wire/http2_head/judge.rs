//! The verdict on a head of HTTP/2 whose fields are all there.

use super::super::authority::{Authority, parse_authority};
use super::super::target::{check_method, check_target};
use super::{
    HeadDraft, HeadLimits, Malformed, Method, Reject, RequestHead, Scheme, StatusCode, TakenHead, Version,
};

impl HeadDraft {
    /// The head. `end_stream`: nothing follows it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn finish(mut self, limits: &HeadLimits, end_stream: bool) -> Result<TakenHead, Malformed> {
        if let Some(malformed) = self.malformed {
            return Err(malformed);
        }
        if self.is_too_large() {
            let reject = too_large("the head is longer than allowed");
            return Ok(TakenHead {
                head: self.into_head(Method::GET),
                refused: Some(reject),
                content_length: None,
            });
        }
        let Some(method) = self.method.take() else { return Err(Malformed("no :method")) };
        self.check_pseudo(&method)?;
        let Ok(content_length) = self.evidence.told_length() else {
            return Err(Malformed("Content-Length is no number, or more than one"));
        };
        if end_stream && content_length.is_some_and(|length| length > 0) {
            return Err(Malformed("a body is announced and none follows"));
        }
        if let Some(joined) = self.cookies.take()
            && self.fields.append("cookie", &joined).is_err()
        {
            self.refuse(Reject::bad("H2-01", "a cookie that no HTTP/1 head could carry"));
        }
        let refused = self.judge(&method, limits).err();
        let refused = self.refused.or(refused);
        Ok(TakenHead { head: self.into_head(method), refused, content_length })
    }

    fn into_head(self, method: Method) -> RequestHead {
        RequestHead {
            method: self.method.unwrap_or(method),
            target: self.target.unwrap_or_else(|| b"/".to_vec()),
            version: Version::Http2,
            authority: self.authority,
            protocol: self.protocol,
            fields: self.fields,
        }
    }

    /// Which pseudo-fields have to be there, and which may not (RFC 9113 sections 8.3.1 and 8.5, RFC 8441 section 4).
    fn check_pseudo(&self, method: &Method) -> Result<(), Malformed> {
        let connect = *method == Method::CONNECT;
        if connect && self.protocol.is_none() {
            return match (self.scheme, &self.target) {
                (None, None) => Ok(()),
                _ => Err(Malformed("CONNECT with a :scheme or a :path")),
            };
        }
        if !connect && self.protocol.is_some() {
            return Err(Malformed(":protocol without CONNECT"));
        }
        if self.scheme.is_none() {
            return Err(Malformed("no :scheme"));
        }
        match self.target.as_deref() {
            None | Some([]) => Err(Malformed("no :path")),
            Some(_) => Ok(()),
        }
    }

    /// Sizes (H1-17), method (H2-07), target (H2-06), authority (H2-05), what `Content-Length` says (H1-02, H2-03),
    /// singletons and expectations (H1-15, H1-16).
    fn judge(&self, method: &Method, limits: &HeadLimits) -> Result<(), Reject> {
        if self.scheme == Some(Scheme::NoLetter) {
            return Err(Reject::bad("H2-01", "a :scheme that is none"));
        }
        let target = self.target.as_deref().unwrap_or(b"/");
        self.check_sizes(method, target, limits)?;
        match &self.protocol {
            Some(protocol) => check_protocol(protocol)?,
            None => check_method(method.as_str().as_bytes())?,
        }
        check_target(target)?;
        self.check_authority()?;
        if self.settings {
            return Err(Reject::bad("H2-02", "a connection-specific field in HTTP/2"));
        }
        self.evidence.request_framing(Version::Http2)?;
        self.evidence.check_singletons()?;
        self.evidence.check_expectation()
    }

    /// A head is as large as one of HTTP/1 may be. Cookies were joined, and are bounded with the whole head.
    fn check_sizes(&self, method: &Method, target: &[u8], limits: &HeadLimits) -> Result<(), Reject> {
        let line = method.as_str().len() + target.len() + " ".len() + " HTTP/1.1".len();
        if line > limits.line {
            let reason = "the request line is longer than allowed";
            return Err(Reject::new(StatusCode::URI_TOO_LONG, "H1-17", reason));
        }
        if self.fields.len() > limits.fields {
            return Err(too_large("more field lines than allowed"));
        }
        if self.longest > limits.line {
            return Err(too_large("a field line is longer than allowed"));
        }
        Ok(())
    }

    /// `:authority` and `Host` are one name or the request is refused.
    fn check_authority(&self) -> Result<(), Reject> {
        let Ok(host) = self.fields.get_only("host") else {
            return Err(Reject::bad("H2-05", "more than one Host"));
        };
        let host = host.map(parse_authority).transpose()?;
        let authority = self.authority.as_deref().map(|text| parse_authority(text.as_bytes())).transpose()?;
        match (authority, host) {
            (None, None) => Err(Reject::bad("H2-05", "neither :authority nor Host")),
            (Some(authority), Some(host)) if !same(&authority, &host) => {
                Err(Reject::bad("H2-05", ":authority and Host differ"))
            }
            _ => Ok(()),
        }
    }
}

fn too_large(reason: &'static str) -> Reject {
    Reject::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "H1-17", reason)
}

/// Extended CONNECT (RFC 8441) opens WebSockets and nothing else: the backend is asked by `Upgrade`, and `h2c` there
/// would open a way past every policy (U-1).
fn check_protocol(protocol: &str) -> Result<(), Reject> {
    if protocol.eq_ignore_ascii_case("websocket") {
        return Ok(());
    }
    Err(Reject::new(StatusCode::NOT_IMPLEMENTED, "H2-07", "a :protocol other than websocket"))
}

fn same(one: &Authority<'_>, two: &Authority<'_>) -> bool {
    let port = |authority: &Authority<'_>| authority.port.filter(|port| !matches!(port, 80 | 443));
    one.host.eq_ignore_ascii_case(two.host) && port(one) == port(two)
}
