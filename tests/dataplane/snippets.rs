//! Snippets over real sockets: what clients and backends get from directives of nginx.

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::{Answer, Raw, get};
use crate::support::manifests::{annotated, config_map, ingress, service};

const FLAGS: [&str; 1] = ["--configmap=default/config"];

/// The proxy with these keys, and both switches on unless they say otherwise.
fn proxy(manifests: &str, data: &[(&str, &str)]) -> TestProxy {
    let mut all = data.to_vec();
    for switch in [("allow-snippet-annotations", "true"), ("annotations-risk-level", "Critical")] {
        if data.iter().all(|(key, _)| *key != switch.0) {
            all.push(switch);
        }
    }
    TestProxy::start(&(manifests.to_owned() + &config_map(&all)), &FLAGS)
}

fn ask(proxy: &TestProxy, target: &str, fields: &str) -> Answer {
    let mut raw = Raw::connect(proxy.http());
    raw.send(format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n{fields}Connection: close\r\n\r\n"));
    raw.answer()
}

#[test]
fn fields_of_both_directions_follow_the_snippet() {
    let backend = Backend::echo("b");
    let text = "more_set_headers \"X-Frame-Options: DENY\";\nadd_header X-Service $service_name always;\n\
        more_clear_headers X-Backend;\nproxy_set_header X-User $http_x_name;\nmore_set_input_headers 'X-Id: $req_id';\n\
        proxy_set_header Accept-Encoding '';";
    let proxy = proxy(&annotated(backend.address(), &[("configuration-snippet", text)]), &[]);
    let answer =
        ask(&proxy, "/x", "X-Name: ann\r\nX-User: root\r\nAccept-Encoding: gzip\r\nX-Request-ID: r1\r\n");
    assert_eq!((answer.field("x-frame-options"), answer.field("x-service")), (Some("DENY"), Some("b")));
    assert_eq!(answer.field("x-backend"), None);
    let seen = &backend.requests()[0];
    assert_eq!((seen.field("x-user"), seen.field("x-id")), (Some("ann"), Some("r1")));
    assert_eq!(seen.field("accept-encoding"), None);
}

#[test]
fn a_guard_of_a_snippet_answers_before_any_backend() {
    let backend = Backend::echo("b");
    let text = "if ($request_method = TRACE) { return 405; } if ($http_x_key != good) { return 403; } \
        rewrite ^/old/(.*)$ /new/$1 break;";
    let proxy = proxy(&annotated(backend.address(), &[("configuration-snippet", text)]), &[]);
    assert_eq!(ask(&proxy, "/", "").status, 403);
    assert_eq!(ask(&proxy, "/", "X-Key: bad\r\n").status, 403);
    assert_eq!(backend.requests().len(), 0);
    assert_eq!(ask(&proxy, "/old/a%20b?q=1", "X-Key: good\r\n").status, 200);
    assert_eq!(backend.requests()[0].line, "GET /new/a%20b?q=1 HTTP/1.1");
}

#[test]
fn locations_of_a_server_snippet_stand_beside_those_of_the_ingress() {
    let backend = Backend::echo("b");
    let text = "location /metrics { deny all; }\nlocation = /robots.txt { return 200 'User-agent: *'; }\n\
        location ~ \\.git { return 404; }\nmore_set_headers 'X-Host: $host';";
    let proxy = proxy(&annotated(backend.address(), &[("server-snippet", text)]), &[]);
    for (target, status) in [
        ("/metrics", 403),
        ("/metrics/x", 403),
        ("/%6detrics", 403),
        ("//metrics", 403),
        ("/x/.git/y", 404),
        ("/x", 200),
    ] {
        let answer = ask(&proxy, target, "");
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.field("x-host"), Some("h.test"), "{target}");
    }
    let answer = ask(&proxy, "/robots.txt", "");
    assert_eq!((answer.text().as_str(), answer.field("content-type")), ("User-agent: *", Some("text/plain")));
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_snippet_that_cannot_be_honoured_is_left_out_or_shuts_its_own_routes() {
    let backend = Backend::echo("b");
    let manifests =
        ingress("a", &[("configuration-snippet", "proxy_bind x;")], &[("a.test", "/", "Prefix", "b")])
            + &ingress(
                "c",
                &[("server-snippet", "deny all; proxy_bind x;")],
                &[("c.test", "/", "Prefix", "b")],
            )
            + &service("b", &[backend.address()]);
    let proxy = proxy(&manifests, &[]);
    assert_eq!(get(proxy.http(), "a.test", "/").status, 200);
    assert_eq!(get(proxy.http(), "c.test", "/").status, 503);
    let told = get(proxy.admin(), "localhost", "/api/v1/diagnostics").text();
    assert!(told.contains("line 1, column 1: proxy_bind is not among the directives known here"), "{told}");
    assert!(told.contains("line 1, column 11: proxy_bind"), "{told}");
}

#[test]
fn snippets_are_stripped_where_the_operator_does_not_allow_them() {
    let backend = Backend::echo("b");
    let closed = [("allow-snippet-annotations", "false")];
    let manifests = annotated(backend.address(), &[("configuration-snippet", "more_set_headers 'X-A: b';")]);
    let answer = ask(&proxy(&manifests, &closed), "/", "");
    assert_eq!((answer.status, answer.field("x-a")), (200, None));
    let guarded = annotated(backend.address(), &[("configuration-snippet", "deny all;")]);
    assert_eq!(ask(&proxy(&guarded, &closed), "/", "").status, 503, "a guard is not left out in silence");
    let shut = TestProxy::start(&manifests, &[]);
    assert_eq!(get(shut.http(), "h.test", "/").status, 503, "the risk level is High by default");
}

#[test]
fn snippets_of_the_config_map_hold_for_all_hosts_and_can_be_switched_off_live() {
    let backend = Backend::echo("b");
    let keys = [
        ("http-snippet", "map $http_user_agent $robot { default ''; ~*bot yes; }"),
        ("server-snippet", "more_set_headers 'X-All: $robot';"),
        ("location-snippet", "if ($robot) { return 429; }"),
    ];
    let manifests = annotated(backend.address(), &[]);
    let proxy = proxy(&manifests, &keys);
    assert_eq!(ask(&proxy, "/", "User-Agent: curl\r\n").status, 200);
    let answer = ask(&proxy, "/", "User-Agent: GoodBot/1\r\n");
    assert_eq!((answer.status, answer.field("x-all")), (429, Some("yes")));
    assert_eq!(get(proxy.http(), "unknown.test", "/").status, 404);
    proxy.swap(&(manifests + &config_map(&[])));
    assert_eq!(ask(&proxy, "/", "User-Agent: GoodBot/1\r\n").status, 200);
}

#[test]
fn bodies_are_searched_while_they_stream() {
    let page = "<html><head></head><body>hello, HELLO</body></html>";
    let backend = Backend::answering(move |request| {
        let coding = if request.line.contains("zip") { "Content-Encoding: gzip\r\n" } else { "" };
        let (first, second) = page.split_at(15);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: \"1\"\r\n{coding}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        )
        .into_bytes()
    });
    let text = "sub_filter '</head>' '<style></style></head>'; sub_filter hello bye; sub_filter_once off;";
    let proxy = proxy(&annotated(backend.address(), &[("configuration-snippet", text)]), &[]);
    let answer = ask(&proxy, "/", "");
    assert_eq!(answer.text(), "<html><head><style></style></head><body>bye, bye</body></html>");
    assert_eq!(answer.field("etag"), None);
    assert_eq!(ask(&proxy, "/zip", "").text(), page, "a compressed body is left alone");
}

#[test]
fn variables_are_set_from_the_answer_of_the_authentication_service() {
    let backend = Backend::echo("b");
    let auth = Backend::answering(|request| {
        let team = request.field("x-team").unwrap_or("none").to_owned();
        format!("HTTP/1.1 200 OK\r\nX-User: ann\r\nX-Seen: {team}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let url = format!("http://{}/check", auth.address());
    let annotations = [
        ("auth-url", url.as_str()),
        ("auth-snippet", "proxy_set_header X-Team blue;"),
        (
            "configuration-snippet",
            "auth_request_set $user $upstream_http_x_user; auth_request_set $seen $upstream_http_x_seen; \
             proxy_set_header X-Forwarded-User $user-$seen;",
        ),
    ];
    let proxy = proxy(&annotated(backend.address(), &annotations), &[]);
    assert_eq!(ask(&proxy, "/", "").status, 200);
    let seen = &backend.requests()[0];
    assert_eq!((seen.field("x-forwarded-user"), seen.field("x-team")), (Some("ann-blue"), None));
}

#[test]
fn what_a_location_has_already_is_replaced_by_its_snippet() {
    let backend = Backend::answering(|request| {
        let rate =
            request.field("x-rate").map(|rate| format!("X-Accel-Limit-Rate: {rate}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 302 Found\r\nLocation: http://in.test/a\r\nSet-Cookie: s=1; Path=/a/\r\n{rate}Content-Length: 3000\r\n\r\n{}",
            "x".repeat(3000)
        )
        .into_bytes()
    });
    let text = "proxy_redirect http://in.test/ https://out.test/; proxy_cookie_path /a/ /b/; \
        proxy_cookie_flags s secure; proxy_http_version 1.0; limit_rate 1k; limit_except GET { deny all; }";
    let proxy = proxy(&annotated(backend.address(), &[("configuration-snippet", text)]), &[]);
    let start = std::time::Instant::now();
    let answer = ask(&proxy, "/", "");
    assert_eq!(answer.field("location"), Some("https://out.test/a"));
    assert_eq!(answer.field("set-cookie"), Some("s=1; Path=/b/; Secure"));
    assert_eq!(answer.text().len(), 3000);
    assert!(start.elapsed() >= std::time::Duration::from_secs(1), "1024 bytes a second, the first at once");
    assert_eq!(backend.requests()[0].line, "GET / HTTP/1.0");
    let answer = ask(&proxy, "/", "X-Rate: 0\r\n");
    assert_eq!((answer.field("x-accel-limit-rate"), answer.text().len()), (None, 3000));
    let mut raw = Raw::connect(proxy.http());
    raw.send("DELETE / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
    assert_eq!(raw.answer().status, 403);
}

#[test]
fn answers_are_compressed_and_named_as_the_snippet_says() {
    let backend = Backend::answering(|request| {
        let kind = request.field("x-kind").unwrap_or("text/html");
        let body = "x".repeat(2000);
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 2000\r\n\r\n{body}").into_bytes()
    });
    let text = "gzip on; gzip_types application/json; gzip_vary on; charset utf-8;";
    let proxy = proxy(&annotated(backend.address(), &[("configuration-snippet", text)]), &[]);
    for (fields, coding, vary, kind) in [
        ("", None, Some("Accept-Encoding"), "text/html; charset=utf-8"),
        ("Accept-Encoding: gzip\r\n", Some("gzip"), Some("Accept-Encoding"), "text/html; charset=utf-8"),
        (
            "Accept-Encoding: gzip\r\nVia: 1.1 x\r\n",
            None,
            Some("Accept-Encoding"),
            "text/html; charset=utf-8",
        ),
        (
            "Accept-Encoding: gzip\r\nX-Kind: application/json\r\n",
            Some("gzip"),
            Some("Accept-Encoding"),
            "application/json",
        ),
        ("Accept-Encoding: gzip\r\nX-Kind: text/plain\r\n", None, None, "text/plain; charset=utf-8"),
        (
            "Accept-Encoding: gzip\r\nX-Kind: text/html; charset=latin1\r\n",
            Some("gzip"),
            Some("Accept-Encoding"),
            "text/html; charset=latin1",
        ),
    ] {
        let answer = ask(&proxy, "/", fields);
        let seen =
            (answer.field("content-encoding"), answer.field("vary"), answer.field("content-type").unwrap());
        assert_eq!(seen, (coding, vary, kind), "{fields}");
    }
}

#[test]
fn an_error_is_replaced_by_the_page_of_the_snippet_once() {
    let backend = Backend::answering(|request| {
        let status = if request.line.contains("/gone") { "404 Gone" } else { "200 OK" };
        let line = &request.line;
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{line}", line.len()).into_bytes()
    });
    let server = "error_page 404 /page.html; error_page 418 = @tea; error_page 410 =200 /gone/page; \
        error_page 403 https://else.test/?from=$uri; error_page 405 /own; proxy_intercept_errors on; \
        location @tea { return 200 'tea for $uri'; } location = /own { internal; return 200 own; }";
    let location = "if ($arg_x) { return 418; } if ($http_x_no) { return 403; } if ($http_x_five) { return 500; } \
        if ($request_method = PUT) { return 405; } if ($http_x_ten) { return 410; }";
    let annotations = [("server-snippet", server), ("configuration-snippet", location)];
    let proxy = proxy(&annotated(backend.address(), &annotations), &[]);
    let seen = |target: &str, fields: &str| {
        let answer = ask(&proxy, target, fields);
        (answer.status, answer.text())
    };
    assert_eq!(seen("/a", ""), (200, "GET /a HTTP/1.1".into()));
    assert_eq!(
        seen("/gone", ""),
        (404, "GET /page.html HTTP/1.1".into()),
        "a path of the host, the old status"
    );
    assert_eq!(seen("/gone?x=1", ""), (200, "tea for /gone".into()), "a named location, its own status");
    let answer = ask(&proxy, "/b", "X-No: 1\r\n");
    assert_eq!((answer.status, answer.field("location")), (302, Some("https://else.test/?from=/b")));
    assert_eq!(seen("/b", "X-Five: 1\r\n").0, 500);
    assert_eq!(seen("/b", "X-Ten: 1\r\n").0, 410, "a page that is an error itself is not replaced again");
    assert_eq!(ask(&proxy, "/own", "").status, 404, "no client gets there by itself");
    let mut raw = Raw::connect(proxy.http());
    raw.send("PUT /x HTTP/1.1\r\nHost: h.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab");
    let answer = raw.answer();
    assert_eq!((answer.status, answer.text().as_str()), (405, "own"));
}

#[test]
fn a_proxy_in_front_that_the_snippet_names_tells_the_client() {
    let backend = Backend::echo("b");
    let text = "set_real_ip_from 127.0.0.0/8; real_ip_header CF-Connecting-IP; allow 9.9.9.0/24; deny all;";
    let proxy = proxy(&annotated(backend.address(), &[("configuration-snippet", text)]), &[]);
    assert_eq!(ask(&proxy, "/", "CF-Connecting-IP: 9.9.9.1\r\n").status, 200);
    assert_eq!(ask(&proxy, "/", "CF-Connecting-IP: 8.8.8.8\r\n").status, 403);
    assert_eq!(ask(&proxy, "/", "X-Real-IP: 9.9.9.1\r\n").status, 403);
    let seen = &backend.requests()[0];
    assert_eq!((seen.field("x-real-ip"), seen.field("x-forwarded-for")), (Some("9.9.9.1"), Some("9.9.9.1")));
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn whom_a_server_believes_counts_before_its_conditions_and_over_the_config_map() {
    let backend = Backend::echo("b");
    let condition = "if ($remote_addr = 9.9.9.9) { return 418; }";
    let seen = |server: &str, location: &str, config: &[(&str, &str)], fields: &str| {
        let annotations = [
            ("server-snippet", server),
            ("configuration-snippet", location),
            ("whitelist-source-range", "192.0.2.7/32"),
        ];
        ask(&proxy(&annotated(backend.address(), &annotations), config), "/", fields).status
    };
    let believed = [("use-forwarded-headers", "true")];
    let (good, blocked) = ("X-Forwarded-For: 192.0.2.7\r\n", "X-Forwarded-For: 9.9.9.9\r\n");
    assert_eq!(seen("", "", &believed, good), 200);
    assert_eq!(seen("set_real_ip_from 10.0.0.0/8;", "", &believed, good), 403);
    assert_eq!(seen("set_real_ip_from 127.0.0.1;", "", &believed, good), 200);
    let told = "set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;";
    let server = format!("{told} {condition}");
    assert_eq!(seen(&server, "", &[], good), 200);
    assert_eq!(seen(&server, "", &[], blocked), 418);
    assert_eq!(seen(told, condition, &[], blocked), 418);
    assert_eq!(seen(condition, told, &[], blocked), 403, "a location has it told after conditions");
    let own = format!("{told} location = / {{ allow 9.9.9.9; deny all; }}");
    assert_eq!(seen(&own, "", &[], good), 403);
    assert_eq!(seen(&own, "", &[], blocked), 404, "admitted, and there is no file");
}

#[test]
fn what_a_rewrite_led_to_is_internal() {
    let backend = Backend::echo("b");
    let server = "location = /own { internal; return 200 own; } \
        location ^~ /shut/ { internal; location /shut/in { return 200 in; } }";
    let location = "rewrite ^/to$ /own last; rewrite ^/into$ /shut/in last;";
    let annotations = [("server-snippet", server), ("configuration-snippet", location)];
    let proxy = proxy(&annotated(backend.address(), &annotations), &[]);
    for (target, status) in [("/own", 404), ("/to", 200), ("/shut/in", 404), ("/into", 200), ("/", 200)] {
        assert_eq!(ask(&proxy, target, "").status, status, "{target}");
    }
}

#[test]
fn conditions_know_what_a_request_asks_to_be_upgraded_to() {
    let backend = Backend::echo("b");
    let text =
        "add_header X-Way \"[$connection_upgrade]\" always; if ($http_upgrade = websocket) { return 403; }";
    let proxy = proxy(&annotated(backend.address(), &[("configuration-snippet", text)]), &[]);
    let answer = ask(&proxy, "/", "");
    assert_eq!((answer.status, answer.field("x-way")), (200, Some("[]")));
    let mut raw = Raw::connect(proxy.http());
    raw.send("GET / HTTP/1.1\r\nHost: h.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let answer = raw.answer();
    assert_eq!((answer.status, answer.field("x-way")), (403, Some("[upgrade]")));
}

#[test]
fn networks_and_shares_decide_as_maps_do() {
    let backend = Backend::echo("b");
    let keys = [
        (
            "http-snippet",
            "geo $near { default 0; 127.0.0.0/8 1; } split_clients $arg_u $half { 50% a; * b; }",
        ),
        ("server-snippet", "more_set_headers \"X-Half: $half\"; if ($near = 0) { return 403; }"),
    ];
    let proxy = proxy(&annotated(backend.address(), &[]), &keys);
    let answer = ask(&proxy, "/?u=user1", "");
    assert_eq!((answer.status, answer.field("x-half")), (200, Some("a")));
    assert_eq!(ask(&proxy, "/?u=user3", "").field("x-half"), Some("b"));
}

#[test]
fn a_guard_that_could_not_be_searched_to_its_end_admits_nobody() {
    let backend = Backend::echo("b");
    let text = "location /adm { location ~ ^/adm/secret { deny all; } return 200 open; }";
    let long = format!("/adm/secret/{}", "x".repeat(9000));
    let wide = [("large-client-header-buffers", "4 32k")];
    for name in ["server-snippet", "configuration-snippet"] {
        let proxy = proxy(&annotated(backend.address(), &[(name, text)]), &wide);
        assert_eq!(ask(&proxy, "/adm/secret", "").status, 403, "{name}");
        assert_eq!(ask(&proxy, &long, "").status, 500, "{name}");
        assert_eq!(ask(&proxy, "/adm/open", "").text(), "open", "{name}");
    }
    let map = [("http-snippet", "map $http_x_up $bad { default 0; ~badbot 1; }")];
    let guard = "set $seen $bad; if ($seen) { return 403; } if ($bad) { return 403; }";
    let proxy = proxy(&annotated(backend.address(), &[("configuration-snippet", guard)]), &map);
    let filler = "x".repeat(7000);
    assert_eq!(ask(&proxy, "/", "X-Up: badbot\r\n").status, 403);
    let both = format!("X-Up: badbot{filler}\r\nX-Up: {filler}\r\n");
    assert_eq!(ask(&proxy, "/", &both).status, 500);
    assert_eq!(backend.requests().len(), 0);
    assert_eq!(ask(&proxy, "/", "X-Up: good\r\n").status, 200);
}

#[test]
fn groups_of_the_expression_that_took_the_path_count_until_another_matches() {
    let backend = Backend::echo("b");
    let server = "location ~ ^/old/(.*)$ { return 301 http://n.test/new/$1; }\n\
        location ~ ^/api/v(?<ver>[0-9]+)/(.*)$ { return 302 http://n.test/v$ver/$2$is_args$args; }";
    let location = "if ($arg_go) { return 302 http://n.test/$1/$zed; } more_set_headers \"X-G: $1\";";
    let annotations =
        [("server-snippet", server), ("configuration-snippet", location), ("use-regex", "true")];
    let rules = [("h.test", "/p/([a-z]+)/(?<zed>.*)", "ImplementationSpecific", "b")];
    let manifests = ingress("a", &annotations, &rules) + &service("b", &[backend.address()]);
    let proxy = proxy(&manifests, &[]);
    for (target, location) in [
        ("/old/a/b", "http://n.test/new/a/b"),
        ("/api/v2/abc?x=1", "http://n.test/v2/abc?x=1"),
        ("/p/abc/d/e?go=1", "http://n.test/abc/d/e"),
    ] {
        assert_eq!(ask(&proxy, target, "").field("location"), Some(location), "{target}");
    }
    let answer = ask(&proxy, "/p/abc/d", "");
    assert_eq!((answer.status, answer.field("x-g")), (200, Some("abc")));
}
