//! What to say of directives that are not in the closed list (`directive`): why not, and what does the same here.

/// Why a snippet with an unknown directive is refused, with what to use instead where there is such a thing.
pub(super) fn told(name: &str) -> String {
    const WHY: &[(&str, &str)] = &[
        ("alias", "there are no files to serve: use a backend"),
        ("auth_basic_user_file", "use the annotations auth-type and auth-secret"),
        ("fastcgi_pass", "use the annotation backend-protocol: FCGI"),
        ("grpc_pass", "use backend-protocol: GRPC and a path of the Ingress"),
        ("include", "there are no files to include"),
        ("limit_conn", "use the annotation limit-connections"),
        ("limit_req", "use the annotations limit-rps and limit-rpm"),
        ("mirror", "use the annotation mirror-target"),
        ("proxy_bind", "source addresses are the system's"),
        ("proxy_limit_rate", "use limit_rate"),
        ("proxy_pass", "backends are named by the paths of an Ingress"),
        ("proxy_set_body", "bodies are passed as they come"),
        ("proxy_ssl_certificate", "use the annotation proxy-ssl-secret"),
        ("proxy_ssl_trusted_certificate", "use the annotation proxy-ssl-secret"),
        ("root", "there are no files to serve: use a backend"),
        ("ssl_certificate", "use spec.tls of the Ingress"),
        ("ssl_ciphers", "use the annotation ssl-ciphers"),
        ("ssl_client_certificate", "use the annotation auth-tls-secret"),
        ("ssl_protocols", "use the key ssl-protocols of the ConfigMap"),
        ("ssl_verify_client", "use the annotation auth-tls-verify-client"),
        ("try_files", "there are no files to serve: use a backend"),
        ("upstream", "backends are Services"),
        ("valid_referers", "use an if on $http_referer, or block-referers of the ConfigMap"),
    ];
    let why = match WHY.binary_search_by_key(&name, |(known, _)| known) {
        Ok(at) => WHY.get(at).map(|(_, why)| *why),
        Err(_) if name.contains("_lua") => Some("there is no Lua"),
        Err(_) if name.starts_with("modsecurity") || name.starts_with("Sec") => {
            Some("there is no ModSecurity")
        }
        Err(_) => None,
    };
    match why {
        Some(why) => format!("{name} is not among the directives known here: {why}"),
        None => format!("{name} is not among the directives known here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_follow_the_name_where_there_is_one() {
        for (name, expect) in [
            ("proxy_bind", ": source addresses are the system's"),
            ("valid_referers", ": use an if on $http_referer, or block-referers of the ConfigMap"),
            ("content_by_lua_block", ": there is no Lua"),
            ("nonsense", ""),
        ] {
            assert_eq!(told(name), format!("{name} is not among the directives known here{expect}"));
        }
    }
}
