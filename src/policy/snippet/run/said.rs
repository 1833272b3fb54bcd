//! What the settings that count say where somebody asks: `proxy` about access, limits, fields, backends and bodies, the
//! other files of this folder about what they expand. Nothing here moves a request along.

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use smallvec::SmallVec;

use super::{Run, Seen, Stage, sendable_method};
use crate::policy::annotation::parse_size;
use crate::policy::compression::Compression;
use crate::policy::forwarded::{RealIp, with_client};
use crate::policy::global::Globals;
use crate::policy::ip_access::IpAccess;
use crate::policy::satisfy::Verdict;
use crate::policy::snippet::settings::{AddHeader, Expires, FieldEdit, Gzip, Rule, Settings};
use crate::policy::template::Template;
use crate::reply::LocalReply;
use crate::request::RequestView;
use crate::wire::Fields;

impl Run<'_> {
    /// All settings that count, from outside in.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Settings> {
        self.levels.iter().flatten().chain(&self.branch).map(|settings| &**settings)
    }

    /// The innermost level that says something.
    pub(super) fn innermost<T>(&self, get: impl Fn(&Settings) -> &[T]) -> Vec<&T> {
        if let Some(branch) = &self.branch
            && !get(branch).is_empty()
        {
            return get(branch).iter().collect();
        }
        let says = |level: &&SmallVec<[Arc<Settings>; 2]>| level.iter().any(|one| !get(one).is_empty());
        let level = self.levels.iter().rev().find(says);
        level.into_iter().flatten().flat_map(|settings| get(settings)).collect()
    }

    /// What the address of a client leads to: the lists of the location's annotations first, then `allow` and `deny` of
    /// its snippets, or of the server's where the location has neither.
    pub fn access(&self, lists: Option<&IpAccess>, client: IpAddr, method: &http::Method) -> Verdict {
        // As in nginx, where the block is a location of its own: its rules stand for those around it.
        let except = self.levels.iter().skip(2).rev().flatten().find_map(|one| one.except.as_ref());
        let except = except.filter(|except| !except.access.is_empty());
        if let Some(except) =
            except.filter(|except| except.methods.iter().all(|one| **one != *method.as_str()))
        {
            return verdict(&except.access, client);
        }
        if let Some(lists) = lists {
            match lists.verdict(client) {
                Verdict::Abstain => {}
                verdict => return verdict,
            }
        }
        let own = |level: usize| lists.is_none() || level >= 2;
        let has = |level: &SmallVec<[Arc<Settings>; 2]>| level.iter().any(|one| !one.access.is_empty());
        let level = self.levels.iter().enumerate().rev().find(|(_, level)| has(level));
        let Some((_, level)) = level.filter(|(depth, _)| own(*depth)) else { return Verdict::Abstain };
        verdict(level.iter().flat_map(|settings| &settings.access), client)
    }

    /// Bytes a second and bytes before they count, as far as snippets say: `set $limit_rate` before `limit_rate`.
    pub fn rate(&self, stage: &Stage<'_>, answer: Seen<'_>) -> (Option<u64>, Option<u64>) {
        let size = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| parse_size(text).ok());
        let of = |get: fn(&Settings) -> Option<&Template>| {
            let template = self.all().rev().find_map(get)?;
            size(&self.expand(template, stage, Some(answer)))
        };
        let set = self.own.iter().find(|(name, _)| **name == *"limit_rate");
        let rate = set.and_then(|(_, value)| size(value));
        (rate.or_else(|| of(|one| one.rate.as_ref())), of(|one| one.rate_after.as_ref()))
    }

    /// True when addresses may be refused by snippets.
    pub fn has_access(&self) -> bool {
        self.all().any(|settings| !settings.access.is_empty() || settings.except.is_some())
    }

    /// `auth_request off` of the location.
    pub fn auth_off(&self) -> bool {
        self.levels.iter().skip(2).flatten().any(|settings| settings.auth_off)
    }

    /// True when variables are to be set from the answer of the authentication service.
    pub fn sets_from_auth(&self) -> bool {
        self.all().any(|settings| !settings.auth_set.is_empty())
    }

    /// Sets the variables of `auth_request_set` from the answer of the authentication service.
    pub fn authenticated(&self, stage: &Stage<'_>, answer: Seen<'_>) {
        let wanted = self.innermost(|settings| &settings.auth_set).into_iter();
        let values = wanted.map(|(name, template)| {
            (name.clone(), template.bytes(&stage.facts, &self.scene(stage, Some(answer), false)))
        });
        let values: Vec<_> = values.collect();
        let mut late = self.late.borrow_mut();
        late.retain(|(known, _)| values.iter().all(|(name, _)| name != known));
        late.extend(values);
    }

    /// The TLS settings that snippets change, in place of those of the location.
    pub fn backend_tls(&self, tls: &mut crate::policy::backend_tls::BackendTls, server: &str) {
        use crate::policy::snippet::settings::SslName;
        for settings in self.all() {
            tls.server_name = settings.ssl_server_name.unwrap_or(tls.server_name);
            tls.verify = settings.ssl_verify.unwrap_or(tls.verify);
            (tls.tls12, tls.tls13) = settings.ssl_protocols.unwrap_or((tls.tls12, tls.tls13));
            tls.ciphers = settings.ssl_ciphers.clone().or_else(|| tls.ciphers.take());
            match &settings.ssl_name {
                Some(SslName::Fixed(name)) => tls.name = Some(Arc::clone(name)),
                // A pattern of hosts has no name to give.
                Some(SslName::Host) if !server.contains(['*', '_', '~']) => {
                    tls.name = Some(Arc::from(server))
                }
                Some(SslName::Host) | None => {}
            }
        }
    }

    /// True when [`Run::backend_tls`] changes anything.
    pub fn has_backend_tls(&self) -> bool {
        self.all().any(|one| {
            let set = [one.ssl_server_name.is_some(), one.ssl_name.is_some(), one.ssl_verify.is_some()];
            set.contains(&true) || one.ssl_protocols.is_some() || one.ssl_ciphers.is_some()
        })
    }

    /// `limit_req_status`.
    pub fn limit_req_status(&self) -> Option<StatusCode> {
        self.all().rev().find_map(|settings| settings.replaced.limit_req_status)
    }

    /// `limit_conn_status`.
    pub fn limit_conn_status(&self) -> Option<StatusCode> {
        self.all().rev().find_map(|settings| settings.replaced.limit_conn_status)
    }

    /// `proxy_method`, with its variables filled in: `Err` where they give none that may be sent.
    ///
    /// # Errors
    /// Says so; the request is answered 500.
    pub fn method(&self, stage: &Stage<'_>) -> Result<Option<http::Method>, &'static str> {
        let Some(template) = self.all().rev().find_map(|settings| settings.method.as_ref()) else {
            return Ok(None);
        };
        let method = self.expand(template, stage, None);
        sendable_method(&method).map(Some).ok_or("proxy_method gives no method that may be sent")
    }

    /// Names that clients do not see (lower case), and names that they see though they are hidden by default.
    pub fn shown(&self) -> (Vec<&str>, Vec<&str>) {
        let names =
            |get: fn(&Settings) -> &[Box<str>]| self.all().flat_map(get).map(|name| &**name).collect();
        (names(|settings| &settings.hide), names(|settings| &settings.pass))
    }

    /// `proxy_set_header` of the innermost location that has any.
    pub(in crate::policy::snippet) fn set_header(&self) -> impl Iterator<Item = &(Box<str>, Template)> {
        let levels = self.levels.iter().skip(2).rev();
        let level = levels.into_iter().find(|level| level.iter().any(|one| !one.set_header.is_empty()));
        level.into_iter().flatten().flat_map(|settings| &settings.set_header)
    }

    /// Edits of headers-more, from outside in: every level counts.
    pub(in crate::policy::snippet) fn edits(
        &self,
        get: fn(&Settings) -> &[FieldEdit],
    ) -> impl Iterator<Item = &FieldEdit> {
        self.all().flat_map(get)
    }

    pub(in crate::policy::snippet) fn add_header(&self) -> Vec<&AddHeader> {
        self.innermost(|settings| &settings.add_header)
    }

    pub(in crate::policy::snippet) fn expires(&self) -> Option<&Expires> {
        self.all().rev().find_map(|settings| settings.expires.as_ref())
    }

    /// `charset` and the types that get it, where one counts: not for `off`.
    pub(in crate::policy::snippet) fn charset(&self) -> Option<(&str, Option<&[Box<str>]>)> {
        let charset = self.all().rev().find_map(|settings| settings.charset.as_deref())?;
        let types = self.all().rev().find_map(|settings| settings.charset_types.as_deref());
        Some((charset, types)).filter(|_| charset != "off")
    }

    /// The request with its client as a proxy in front tells it, where snippets say who may; `None` where that changes
    /// nothing. Before the access phase (`inside` false) only what is said up to the server counts. As in nginx the
    /// address is told once: by the server's networks, then by the location's, and where neither holds it is the
    /// connection's, whatever the ConfigMap's networks would let tell.
    pub fn relayed<'v>(
        &self,
        view: &RequestView<'v>,
        globals: &Globals,
        inside: bool,
    ) -> Option<Box<RequestView<'v>>> {
        if self.is_idle() {
            return None;
        }
        let outer = self.real_ip(globals, 2);
        let inner = if inside { self.real_ip(globals, usize::MAX) } else { None };
        if outer.is_none() && inner.is_none() {
            return None;
        }
        let outer = outer.unwrap_or_else(|| RealIp::over(globals, Vec::new(), Vec::new(), None, None));
        let client = outer.client(view).or_else(|| inner?.client(view));
        with_client(view, client.unwrap_or(view.forwarded.source))
    }

    /// Who may tell the client's address, and how, where the outermost `depth` levels say other than the ConfigMap.
    pub(super) fn real_ip(&self, globals: &Globals, depth: usize) -> Option<RealIp> {
        let levels = || self.levels.iter().take(depth);
        let said = || levels().flatten().rev();
        let header = said().find_map(|settings| settings.real_ip_header.clone());
        let recursive = said().find_map(|settings| settings.real_ip_recursive);
        let from = |level: &SmallVec<[Arc<Settings>; 2]>| -> Vec<_> {
            level.iter().flat_map(|settings| settings.real_ip_from.iter().copied()).collect()
        };
        let http = self.levels.first().map(from).unwrap_or_default();
        let own = levels().skip(1).rev().map(from).find(|from| !from.is_empty()).unwrap_or_default();
        if header.is_none() && recursive.is_none() && http.is_empty() && own.is_empty() {
            return None;
        }
        Some(RealIp::over(globals, http, own, header, recursive))
    }

    /// How answers are compressed, where snippets say other than the ConfigMap.
    pub fn compression(&self, globals: &Compression) -> Option<Compression> {
        let mut said = Gzip::default();
        for settings in self.all() {
            said.take(&settings.gzip);
        }
        (said != Gzip::default()).then(|| said.over(globals))
    }

    /// `sub_filter` with its texts filled in; whether only the first occurrence counts; content types.
    pub fn substitutions(&self, stage: &Stage<'_>) -> Option<Substitutions> {
        let pairs = self.innermost(|settings| &settings.substitutions);
        if pairs.is_empty() {
            return None;
        }
        let text = |template: &Template| self.text(template, stage);
        Some(Substitutions {
            pairs: pairs.into_iter().map(|(from, to)| (text(from), text(to))).collect(),
            once: self.all().rev().find_map(|settings| settings.substitute_once).unwrap_or(true),
            types: self.all().rev().find_map(|settings| settings.substitute_types.clone()),
        })
    }

    pub(in crate::policy::snippet) fn expand(
        &self,
        template: &Template,
        stage: &Stage<'_>,
        answer: Option<Seen<'_>>,
    ) -> Vec<u8> {
        template.bytes(&stage.facts, &self.scene(stage, answer, false))
    }
}

/// `sub_filter`, ready for one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitutions {
    /// Text to find (ASCII letters of either case), and what stands there instead.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Only the first occurrence of each.
    pub once: bool,
    /// Content types beside `text/html`.
    pub types: Option<Arc<[Box<str>]>>,
}

impl Substitutions {
    /// True for an answer that is searched: of a content type that counts, and not compressed.
    pub fn apply_to(&self, fields: &Fields) -> bool {
        let kind = fields.get_str("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let listed = |name: &str| name == "*" || name.eq_ignore_ascii_case(kind);
        let counts = kind.eq_ignore_ascii_case("text/html")
            || self.types.as_ref().is_some_and(|types| types.iter().any(|name| listed(name)));
        let coded = fields
            .get_str("content-encoding")
            .is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity"));
        counts && !coded
    }
}

/// The first rule that takes the client.
fn verdict<'r>(rules: impl IntoIterator<Item = &'r Rule>, client: IpAddr) -> Verdict {
    let address = client.to_canonical();
    let found = rules.into_iter().find(|rule| rule.net.is_none_or(|net| net.contains(&address)));
    match found {
        Some(rule) if rule.allow => Verdict::Admit,
        Some(_) => Verdict::Refuse(LocalReply::Forbidden { client }),
        None => Verdict::Abstain,
    }
}
