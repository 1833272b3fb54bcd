//! How the API server is reached: a kubeconfig, the Pod's own service account, or an address.

use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::Access;

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: {source}")]
    Kubeconfig {
        /// Its path as given.
        path: String,
        /// Why.
        source: config::KubeconfigError,
    },
    /// Neither a Pod nor a kubeconfig.
    #[error("this is no Pod ({0}) and there is no kubeconfig; use --kubeconfig")]
    Nowhere(#[source] config::InClusterError),
    /// `--apiserver-host` is no address.
    #[error("--apiserver-host={0} is no URL such as https://10.0.0.1:6443")]
    Host(String),
    /// `--certificate-authority` cannot be read.
    #[error("--certificate-authority={path} cannot be read: {reason}")]
    Authority {
        /// Its path as given.
        path: String,
        /// Why.
        reason: String,
    },
    /// Address and credentials do not make a client.
    #[error("cannot make a client of the API server: {0}")]
    Client(#[from] kube::Error),
}

/// A client; nothing is asked yet. Needs a runtime around it.
///
/// # Errors
/// [`AccessError`].
pub(super) async fn client(access: &Access) -> Result<Client, AccessError> {
    let mut config = base(access).await?;
    if let Some(host) = &access.host {
        // Upstream takes an address without a scheme too.
        let url = if host.contains("://") { host.clone() } else { format!("http://{host}") };
        config.cluster_url = url.parse().map_err(|_| AccessError::Host(host.clone()))?;
    }
    if let Some(path) = &access.authority {
        let failed = |reason: String| AccessError::Authority { path: path.display().to_string(), reason };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let certificates = certificates.map_err(|error| failed(error.to_string()))?;
        if certificates.is_empty() {
            return Err(failed("it holds no certificate".into()));
        }
        config.root_cert = Some(certificates.iter().map(|one| one.to_vec()).collect());
        config.root_cert_file = None;
    }
    // Every request has its own pause; two on top of each other would be one too long.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// `--kubeconfig`, else the Pod's service account, else `$KUBECONFIG` or `~/.kube/config`, else the bare address.
async fn base(access: &Access) -> Result<Config, AccessError> {
    let options = KubeConfigOptions::default();
    if let Some(path) = &access.kubeconfig {
        let failed = |source| AccessError::Kubeconfig { path: path.display().to_string(), source };
        let file = Kubeconfig::read_from(path).map_err(failed)?;
        return Config::from_custom_kubeconfig(file, &options).await.map_err(failed);
    }
    let no_pod = match Config::incluster() {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    match (Config::from_kubeconfig(&options).await, &access.host) {
        (Ok(config), _) => Ok(config),
        (Err(_), Some(host)) => {
            let url = host.parse().map_err(|_| AccessError::Host(host.clone()))?;
            Ok(Config::new(url))
        }
        (Err(_), None) => Err(AccessError::Nowhere(no_pod)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn fails(access: Access, words: &str) {
        let error = client(&access).await.err().expect("no client").to_string();
        assert!(error.contains(words), "{access:?}: {error}");
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_named() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let missing = directory.path().join("none");
        fails(Access { kubeconfig: Some(missing), ..Access::default() }, "cannot use the kubeconfig").await;
        let broken = file("broken", "{[");
        fails(Access { kubeconfig: Some(broken), ..Access::default() }, "cannot use the kubeconfig").await;
        let good = file(
            "good",
            "apiVersion: v1\nkind: Config\nclusters: [{name: t, cluster: {server: \"http://127.0.0.1:9\"}}]\n\
             users: [{name: u, user: {token: x}}]\ncontexts: [{name: t, context: {cluster: t, user: u}}]\n\
             current-context: t\n",
        );
        let good = Access { kubeconfig: Some(good), ..Access::default() };
        let empty = file("empty.pem", "");
        fails(Access { authority: Some(empty), ..good.clone() }, "no certificate").await;
        fails(Access { host: Some("http://a b".into()), ..good.clone() }, "--apiserver-host").await;
        let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
        assert!(client(&good).await.is_ok());
    }
}
