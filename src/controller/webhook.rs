//! The certificate of the admission webhook, made here: kept in a Secret that all replicas read, replaced long before it
//! ends, and its authority written into the ValidatingWebhookConfiguration, so that no Job and no image for one is needed.
//! What is answered on that port is `admission`'s.
//!
//! No replica needs to lead for this: the server takes the first that writes, the others read. A new authority stands in
//! the configuration beside the old one before its certificate is shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use serde_json::{Value as Json, json};
use tokio::time::sleep;

use super::api::{self, ApiError};
use crate::cert::serving::{self, Made, Serving};
use crate::model::ObjectKey;

/// How often Secret and configuration are compared.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often while there is nothing to show yet.
const IMPATIENT: Duration = Duration::from_secs(1);
/// Path of the configurations.
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

/// Keeps the certificate.
pub(super) struct CertificateKeeper {
    pub(super) client: Client,
    /// Name of the ValidatingWebhookConfiguration.
    pub(super) configuration: String,
    /// Where the pair is.
    pub(super) secret: ObjectKey,
    /// Where it is shown.
    pub(super) serving: Serving,
}

/// A pair as the Secret has it; the names of its parts are those that ingress-nginx's own Secret has.
#[derive(Clone, PartialEq, Eq)]
struct Stored {
    /// Newest first; the one before it stays for replicas that have not read the new pair yet.
    authorities: String,
    chain: String,
    key: String,
    /// What it was made for.
    names: String,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the configuration names neither a Service nor a URL")]
    NoName,
    #[error("no certificate can be made: {0}")]
    Make(String),
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

impl CertificateKeeper {
    /// Keeps it until dropped.
    pub(super) async fn run(self) {
        let mut told = String::new();
        loop {
            let outcome = self.look().await.map_err(|trouble| trouble.to_string());
            match outcome {
                Ok(()) => told.clear(),
                Err(trouble) if trouble != told => {
                    tracing::warn!(
                        configuration = self.configuration, secret = %self.secret, trouble,
                        "the certificate of the webhook cannot be kept, trying again"
                    );
                    told = trouble;
                }
                Err(_told) => {}
            }
            sleep(if self.serving.is_ready() { INTERVAL } else { IMPATIENT }).await;
        }
    }

    async fn look(&self) -> Result<(), Trouble> {
        let target = format!("{CONFIGURATIONS}/{}", self.configuration);
        let configuration = api::get(&self.client, &target).await?;
        let names = names(&configuration).join(",");
        if names.is_empty() {
            return Err(Trouble::NoName);
        }
        let stored = self.stored(&names).await?;
        // First who signed it, then what they signed.
        let bundle = STANDARD.encode(&stored.authorities);
        let patch = patch(&configuration, &bundle);
        if !patch.is_empty() {
            api::patch(&self.client, &target, &Json::Array(patch)).await?;
            tracing::info!(configuration = self.configuration, "wrote the authority of the webhook");
        }
        self.serving.put(stored.chain.as_bytes(), stored.key.as_bytes()).map_err(Trouble::Unusable)?;
        Ok(())
    }

    /// The pair, made now where there is none that will do.
    async fn stored(&self, names: &str) -> Result<Stored, Trouble> {
        let ObjectKey { namespace, name } = &self.secret;
        let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
        let target = format!("{secrets}/{name}");
        let current = match api::get(&self.client, &target).await {
            Ok(secret) => Some(secret),
            Err(error) if error.code() == Some(404) => None,
            Err(error) => return Err(error.into()),
        };
        let before = current.as_ref().and_then(Stored::of);
        if let Some(before) = before.as_ref().filter(|before| before.will_do(names, now())) {
            return Ok(before.clone());
        }
        let list: Vec<String> = names.split(',').map(str::to_owned).collect();
        let made = serving::make(&list, now()).map_err(Trouble::Make)?;
        let fresh = Stored::new(made, before.as_ref(), names);
        let written = match current {
            None => {
                let meta = json!({"name": &**name, "namespace": &**namespace});
                let body =
                    json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": fresh.data()});
                api::post(&self.client, &secrets, &body).await
            }
            Some(mut secret) => {
                secret["data"] = fresh.data();
                // The resourceVersion in it makes the server refuse what somebody else overtook.
                api::put(&self.client, &target, &secret).await
            }
        };
        match written {
            Ok(_) => {
                tracing::info!(secret = %self.secret, names, "made a certificate for the webhook");
                Ok(fresh)
            }
            // Another replica was first.
            Err(error) if error.code() == Some(409) => {
                let theirs = api::get(&self.client, &target).await?;
                Stored::of(&theirs).ok_or_else(|| Trouble::Unusable("the Secret has no pair".into()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

// === impl Stored ===

impl Stored {
    fn new(made: Made, before: Option<&Self>, names: &str) -> Self {
        let mut authorities = made.authority;
        if let Some(old) = before.and_then(|before| first_certificate(&before.authorities)) {
            authorities.push_str(old);
        }
        Self { authorities, chain: made.chain, key: made.key, names: names.to_owned() }
    }

    fn of(secret: &Json) -> Option<Self> {
        let part = |name: &str| {
            let text = secret.pointer("/data").and_then(|data| data.get(name)).and_then(Json::as_str)?;
            String::from_utf8(STANDARD.decode(text).ok()?).ok()
        };
        let names = part("names").unwrap_or_default();
        Some(Self { authorities: part("ca")?, chain: part("cert")?, key: part("key")?, names })
    }

    fn data(&self) -> Json {
        let parts =
            [("ca", &self.authorities), ("cert", &self.chain), ("key", &self.key), ("names", &self.names)];
        parts.into_iter().map(|(name, text)| (name, json!(STANDARD.encode(text)))).collect()
    }

    /// Whether it is for these names, is a pair, and lasts.
    fn will_do(&self, names: &str, now: i64) -> bool {
        let margin = i64::try_from(serving::RENEW_BEFORE.as_secs()).unwrap_or(i64::MAX);
        self.names == names
            && serving::inspect(self.chain.as_bytes(), self.key.as_bytes())
                .is_ok_and(|not_after| not_after.saturating_sub(now) > margin)
    }
}

/// The first certificate of a bundle, its last line with it.
fn first_certificate(bundle: &str) -> Option<&str> {
    const END: &str = "-----END CERTIFICATE-----";
    let end = bundle.find(END)? + END.len();
    let end = if bundle.get(end..).is_some_and(|rest| rest.starts_with('\n')) { end + 1 } else { end };
    bundle.get(..end)
}

fn webhooks(configuration: &Json) -> impl Iterator<Item = (usize, &Json)> {
    configuration.get("webhooks").and_then(Json::as_array).into_iter().flatten().enumerate()
}

/// Names under which the API server calls: those of the Service, or the host of a URL.
fn names(configuration: &Json) -> Vec<String> {
    let mut names: Vec<String> = webhooks(configuration).filter_map(|(_, hook)| name(hook)).collect();
    names.sort();
    names.dedup();
    names
}

fn name(hook: &Json) -> Option<String> {
    let client = hook.get("clientConfig")?;
    if let Some(service) = client.get("service").filter(|service| !service.is_null()) {
        let text = |name: &str| service.get(name).and_then(Json::as_str);
        return Some(format!("{}.{}.svc", text("name")?, text("namespace")?));
    }
    let url: http::Uri = client.get("url")?.as_str()?.parse().ok()?;
    Some(url.host()?.trim_matches(['[', ']']).to_owned())
}

/// JSON patch (RFC 6902) that gives every webhook this bundle; empty when all have it.
fn patch(configuration: &Json, bundle: &str) -> Vec<Json> {
    let current = |hook: &Json| hook.pointer("/clientConfig/caBundle").and_then(Json::as_str) == Some(bundle);
    webhooks(configuration)
        .filter(|(_, hook)| !current(hook))
        .map(|(index, _)| {
            json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle})
        })
        .collect()
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundle: Option<&str>) -> Json {
        let mut client = json!({"service": {"name": "hook", "namespace": "edge", "path": "/p"}});
        if let Some(bundle) = bundle {
            client["caBundle"] = json!(bundle);
        }
        json!({"webhooks": [{"name": "a", "clientConfig": client}]})
    }

    #[test]
    fn a_certificate_is_for_the_names_that_the_api_server_calls() {
        assert_eq!(names(&configuration(None)), ["hook.edge.svc"]);
        let url = json!({"webhooks": [{"clientConfig": {"url": "https://127.0.0.1:8443/p"}},
            {"clientConfig": {"url": "https://[::1]:8443/p"}}]});
        assert_eq!(names(&url), ["127.0.0.1", "::1"]);
        assert!(names(&json!({})).is_empty());
    }

    #[test]
    fn only_a_bundle_that_differs_is_patched() {
        let expect = json!({"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "b"});
        assert_eq!(patch(&configuration(None), "b"), std::slice::from_ref(&expect));
        assert_eq!(patch(&configuration(Some("a")), "b"), [expect]);
        assert!(patch(&configuration(Some("b")), "b").is_empty());
    }

    #[test]
    fn a_pair_is_kept_until_its_names_change_or_its_end_is_near() {
        let made = |now| serving::make(&["hook.edge.svc".into()], now).unwrap();
        let start = 1_700_000_000;
        let stored = Stored::new(made(start), None, "hook.edge.svc");
        let again = Stored::of(&json!({"data": stored.data()})).unwrap();
        assert!(again == stored, "what is stored is read as it was");
        assert!(stored.will_do("hook.edge.svc", start));
        assert!(!stored.will_do("other.edge.svc", start));
        let margin = i64::try_from((serving::VALIDITY - serving::RENEW_BEFORE).as_secs()).unwrap();
        assert!(stored.will_do("hook.edge.svc", start + margin - 1));
        assert!(!stored.will_do("hook.edge.svc", start + margin));
        let next = Stored::new(made(start + margin), Some(&stored), "hook.edge.svc");
        assert!(next.authorities.contains(&stored.authorities), "the old authority stays a while");
        let third = Stored::new(made(start + margin), Some(&next), "hook.edge.svc");
        assert_eq!(third.authorities.matches("BEGIN CERTIFICATE").count(), 2, "and no longer");
    }

    #[test]
    fn a_secret_that_is_no_pair_is_replaced() {
        assert!(Stored::of(&json!({})).is_none());
        assert!(Stored::of(&json!({"data": {"ca": "!", "cert": "", "key": ""}})).is_none());
        let empty = Stored {
            authorities: String::new(),
            chain: String::new(),
            key: String::new(),
            names: "a".into(),
        };
        assert!(!empty.will_do("a", 0));
    }
}
