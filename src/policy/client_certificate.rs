//! `auth-tls-*`: client certificates of a host. The first Ingress of the host with a usable Secret decides; where one
//! asks for them and none has a usable Secret, the whole host is shut (`security.md` E-5).
//!
//! Handshakes never fail over a certificate: they only ask for one, and every request is judged, as with nginx.
//! Verifying is `cert::client`'s; this says what is wanted and what a verdict leads to.

use std::sync::Arc;

use http::StatusCode;

use super::annotation::{Fidelity, Reader, Risk, Scope, Spec, Value};
use super::redirect::RedirectStyle;
use super::template::{Facts, Template};
use crate::diagnostic::Severity;
use crate::model::ObjectKey;
use crate::pattern::{Anchor, Case, Pattern};
use crate::reply::{LocalReply, RedirectCause};
use crate::wire::fields::is_field_value;

pub(super) mod pem;

const SERVER: Scope = Scope::Server;

pub(super) const SECRET: Spec = Spec::new("auth-tls-secret", SERVER, Risk::Medium)
    .fail_closed()
    .values("none", "default/clients-ca")
    .doc("Secret with the authorities of client certificates (`ca.crt`) and, if any, revocation lists (`ca.crl`). Without a usable one the host answers 503.");
const VERIFY: Spec = Spec::new("auth-tls-verify-client", SERVER, Risk::Medium)
    .values("on", "optional")
    .doc("`on`: no sound certificate, 400; `optional`: none is fine; `optional_no_ca`: one of an unknown authority too; `off`: nobody is asked.");
const DEPTH: Spec = Spec::new("auth-tls-verify-depth", SERVER, Risk::Low)
    .values("1", "2")
    .doc("Authorities that may stand between a client's certificate and `ca.crt`.");
const ERROR_PAGE: Spec = Spec::new("auth-tls-error-page", SERVER, Risk::High)
    .fidelity(Fidelity::Equivalent(
        "clients are redirected to URLs; paths and named locations give the page of 400",
    ))
    .values("none", "https://app.example/certificate-needed")
    .doc("Where clients go instead of 400.");
const PASS: Spec = Spec::new("auth-tls-pass-certificate-to-upstream", SERVER, Risk::Low)
    .values("false", "true")
    .doc("Send the certificate to backends as ssl-client-cert (PEM, URL-escaped).");
const MATCH_CN: Spec = Spec::new("auth-tls-match-cn", SERVER, Risk::High)
    .fail_closed()
    .fidelity(Fidelity::Equivalent(
        "the expression is held against each CN of the subject and must match from its start",
    ))
    .values("none", "CN=client")
    .doc("Expression for the name in client certificates; others get 403.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[SECRET, VERIFY, DEPTH, ERROR_PAGE, PASS, MATCH_CN];

/// What a host wants of client certificates.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientCertificates {
    /// This.
    Ask(Arc<ClientAuth>),
    /// Something that cannot be had.
    Broken,
}

/// How client certificates are asked for and judged.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientAuth {
    /// Whom to trust. Two hosts with the same group may share connections.
    pub group: Group,
    /// Where a refused client goes.
    pub error_page: Option<Template>,
    /// Backends see the certificate.
    pub pass_certificate: bool,
    /// `auth-tls-match-cn`.
    pub match_cn: Option<Arc<Pattern>>,
}

/// What handshakes depend on (`security.md` E-4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// The Secret.
    pub secret: ObjectKey,
    /// Its authorities and revocation lists.
    pub bundle: Bundle,
    /// `auth-tls-verify-client`.
    pub verify: Verify,
    /// `auth-tls-verify-depth`.
    pub depth: u32,
}

/// DER of a Secret's `ca.crt` and `ca.crl`; a revoked client is worse than none, so both stay together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bundle {
    /// Certificates.
    pub authorities: Arc<[Box<[u8]>]>,
    /// Revocation lists; none are asked for when there is no `ca.crl`.
    pub revocations: Arc<[Box<[u8]>]>,
}

/// `auth-tls-verify-client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Nobody is asked.
    Off,
    /// A sound certificate or 400.
    On,
    /// None or a sound one.
    Optional,
    /// None, or any whose holder has its key.
    OptionalNoCa,
}

/// What a client showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// No certificate.
    Nothing,
    /// One that stands up.
    Sound,
    /// One that does not.
    Faulty {
        /// OpenSSL's words for it.
        reason: &'static str,
        /// Only its authority is unknown.
        unknown_authority: bool,
    },
}

impl Shown {
    /// nginx's `$ssl_client_verify`.
    pub fn text(&self) -> String {
        match self {
            Self::Nothing => "NONE".into(),
            Self::Sound => "SUCCESS".into(),
            Self::Faulty { reason, .. } => format!("FAILED:{reason}"),
        }
    }
}

impl ClientCertificates {
    /// Reads the family. A fault also shuts the routes of the Ingress.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let secret = reader.reference(&SECRET);
        let verify = reader.word(
            &VERIFY,
            &[
                ("on", Verify::On),
                ("off", Verify::Off),
                ("optional", Verify::Optional),
                ("optional_no_ca", Verify::OptionalNoCa),
            ],
        );
        let depth = reader.read(&DEPTH, depth).or(1);
        let error_page = reader.read(&ERROR_PAGE, error_page).ok().flatten();
        let pass_certificate = reader.bool(&PASS).or_default();
        let match_cn = reader.read(&MATCH_CN, match_cn);
        let secret = match secret {
            Value::Present(secret) => secret,
            Value::Invalid => return Some(Self::Broken),
            Value::Absent => {
                if !matches!(match_cn, Value::Absent) {
                    shut(
                        reader,
                        &MATCH_CN,
                        "has no auth-tls-secret beside it",
                        "name the Secret with ca.crt",
                    );
                }
                return None;
            }
        };
        let bundle = match reader.secret(&secret) {
            None => Err("names a Secret that does not exist or cannot be read"),
            Some(secret) => bundle(
                secret.data.get("ca.crt").map(|bytes| bytes.expose()),
                secret.data.get("ca.crl").map(|bytes| bytes.expose()),
            ),
        };
        let bundle = match (bundle, &match_cn) {
            (Err(reason), _) => {
                shut(reader, &SECRET, reason, "put the certificates of the authorities under ca.crt");
                return Some(Self::Broken);
            }
            (Ok(_), Value::Invalid) => return Some(Self::Broken),
            (Ok(bundle), _) => bundle,
        };
        let group = Group { secret, bundle, verify: verify.or(Verify::On), depth };
        Some(Self::Ask(Arc::new(ClientAuth { group, error_page, pass_certificate, match_cn: match_cn.ok() })))
    }

    /// The group of connections that may carry requests for the host; `None` for hosts that ask nobody.
    pub fn group(&self) -> Option<&Group> {
        match self {
            Self::Ask(auth) if auth.group.verify != Verify::Off => Some(&auth.group),
            Self::Ask(_) | Self::Broken => None,
        }
    }
}

impl ClientAuth {
    /// The answer for a client that showed this, by the subject of its certificate (empty for none).
    pub fn refusal(&self, shown: &Shown, subject: &str) -> Option<LocalReply> {
        let verify = self.group.verify;
        match shown {
            Shown::Nothing if verify == Verify::On => return Some(LocalReply::CertificateMissing),
            Shown::Faulty { unknown_authority, .. }
                if verify != Verify::Off && !(verify == Verify::OptionalNoCa && *unknown_authority) =>
            {
                return Some(LocalReply::CertificateInvalid);
            }
            _ => {}
        }
        (!self.admits(subject)).then_some(LocalReply::CertificateUnauthorized)
    }

    /// True when a name of the subject matches. The expression begins with `CN=`, and a match begins where an
    /// attribute does: another attribute whose value looks like a CN is none.
    fn admits(&self, subject: &str) -> bool {
        let Some(pattern) = &self.match_cn else { return true };
        let mut starts = vec![0];
        let mut escaped = false;
        for (at, byte) in subject.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b',' | b'+' => starts.push(at + 1),
                _ => {}
            }
        }
        let names = starts.into_iter().filter_map(|start| subject.get(start..));
        names
            .filter(|name| name.starts_with("CN="))
            .any(|name| pattern.is_match(name.as_bytes()).unwrap_or(false))
    }

    /// `auth-tls-error-page` in place of a refusal over the certificate itself.
    pub fn page_for(&self, refusal: LocalReply, facts: &Facts<'_>) -> LocalReply {
        let concerns = matches!(refusal, LocalReply::CertificateMissing | LocalReply::CertificateInvalid);
        let Some(page) = self.error_page.as_ref().filter(|_| concerns) else { return refusal };
        let location = page.expand(facts);
        let location = match location.starts_with('/') {
            true => RedirectStyle::default().local(facts.view, &location),
            false => location,
        };
        if !is_field_value(location.as_bytes()) {
            return refusal;
        }
        LocalReply::Redirect { status: StatusCode::FOUND, location, cause: RedirectCause::CertificateError }
    }
}

fn shut(reader: &mut Reader<'_>, spec: &Spec, reason: &str, hint: &str) {
    reader.deny("ClientCertificatesUnavailable");
    let hint = format!("{hint}; until then the routes answer 503");
    reader.report(spec.name, Severity::Error, "ClientCertificatesUnavailable", reason, hint);
}

fn bundle(authorities: Option<&[u8]>, revocations: Option<&[u8]>) -> Result<Bundle, &'static str> {
    let authorities = authorities.ok_or("names a Secret without ca.crt")?;
    let authorities = pem::sections(authorities, "CERTIFICATE").ok_or("has a ca.crt that is no PEM")?;
    if authorities.is_empty() {
        return Err("has a ca.crt without certificate");
    }
    let revocations = match revocations {
        None => Vec::new(),
        Some(text) => pem::sections(text, "X509 CRL")
            .filter(|lists| !lists.is_empty())
            .ok_or("has a ca.crl without revocation list")?,
    };
    Ok(Bundle { authorities: authorities.into(), revocations: revocations.into() })
}

/// As ingress-nginx: what is no depth, and 0, counts as 1.
fn depth(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(depth @ 1..=16) => Ok(depth),
        _ => Err("must lie between 1 and 16".into()),
    }
}

/// A URL; a path or a named location is known and gives no page.
fn error_page(text: &str) -> Result<Option<Template>, String> {
    if text.starts_with('@') || (text.starts_with('/') && !text.starts_with("//")) {
        return Ok(None);
    }
    let sound = ["http://", "https://"].iter().any(|scheme| {
        text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']))
    });
    if !sound || text.len() > 2048 || text.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
        return Err("must start with http:// or https:// and a host".into());
    }
    Template::parse(text).map(Some).map_err(|error| error.to_string())
}

fn match_cn(text: &str) -> Result<Arc<Pattern>, String> {
    if !text.starts_with("CN=") {
        return Err("must start with CN=".into());
    }
    let pattern =
        Pattern::compile(text, Case::Sensitive, Anchor::Start).map_err(|error| error.to_string())?;
    if !pattern.is_linear() {
        return Err("may hold no look-around and no back-reference".into());
    }
    Ok(Arc::new(pattern))
}

#[cfg(test)]
mod tests;
