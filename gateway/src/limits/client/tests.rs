use super::*;

fn proxies(header: TrustedHeader) -> TrustedProxies {
    let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
    TrustedProxies { networks: networks.to_vec(), header }
}

fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    for (name, value) in headers {
        request.append_header(*name, *value).unwrap();
    }
    request
}

fn client(peer: &str, header: TrustedHeader, lines: &[(&'static str, &str)]) -> Client {
    proxies(header).client(peer.parse().unwrap(), &request(lines).headers, false)
}

#[test]
fn a_client_is_the_last_that_a_trusted_proxy_names_and_that_is_none() {
    for (peer, lines, address) in [
        ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
        ("::ffff:192.0.2.1", &[], "192.0.2.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2,2001:db8::1"], "198.51.100.7"),
        ("10.0.0.1", &["203.0.113.9", "198.51.100.7,", "10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["203.0.113.9", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", &["[2001:db9::7]:4711"], "2001:db9::7"),
        ("10.0.0.1", &["[2001:db9::7]"], "2001:db9::7"),
        ("10.0.0.1", &["2001:db9::7"], "2001:db9::7"),
        ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        // What is no address was written by nobody who is trusted, nor what stands before it.
        ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["203.0.113.9, 198.51.100.300"], "10.0.0.1"),
        ("10.0.0.1", &["203.0.113.9, "], "10.0.0.1"),
        ("10.0.0.1", &["é"], "10.0.0.1"),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let found = client(peer, TrustedHeader::XForwardedFor, &lines);
        assert_eq!(found.address().to_string(), address, "{peer} {lines:?}");
    }
}

#[test]
fn only_the_header_that_is_trusted_is_believed() {
    let lines = [("x-forwarded-for", "203.0.113.1"), ("forwarded", "for=203.0.113.2")];
    for (header, address) in [(TrustedHeader::XForwardedFor, "203.0.113.1"), (TrustedHeader::Forwarded, "203.0.113.2")]
    {
        assert_eq!(client("10.0.0.1", header, &lines).address().to_string(), address);
    }
    for (value, address) in [
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        ("by=203.0.113.43; For=\"192.0.2.60:80\"", "192.0.2.60"),
        ("For=\"[2001:db9:cafe::17]:4711\"", "2001:db9:cafe::17"),
        ("for=192.0.2.60, for=10.0.0.9", "192.0.2.60"),
        ("for=192.0.2.60, for=_hidden", "10.0.0.1"),
        ("for=192.0.2.60, by=10.0.0.9", "10.0.0.1"),
        ("192.0.2.60", "10.0.0.1"),
    ] {
        let found = client("10.0.0.1", TrustedHeader::Forwarded, &[("forwarded", value)]);
        assert_eq!(found.address().to_string(), address, "{value}");
    }
}

/// What a server behind is told, of `x-` headers and `forwarded`.
fn told(client: &Client, sent: &[(&'static str, &str)]) -> Vec<(String, String)> {
    let mut request = request(sent);
    request.insert_header("host", "media.example").unwrap();
    client.tell(&mut request).unwrap();
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let mut told: Vec<_> = request.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    told.retain(|(name, _)| name != "host");
    told.sort();
    told
}

const CLAIMS: [(&str, &str); 9] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-for", "198.51.100.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "shop.example"),
    ("x-forwarded-port", "443"),
    ("x_forwarded_for", "203.0.113.9"),
    ("forwarded", "for=203.0.113.9"),
    ("x-real-ip", "203.0.113.9"),
    ("x_real-ip", "203.0.113.9"),
];

#[test]
fn servers_behind_are_told_nothing_that_only_a_client_claims() {
    let stranger = client("192.0.2.1", TrustedHeader::XForwardedFor, &CLAIMS);
    insta::assert_debug_snapshot!(told(&stranger, &CLAIMS), @r#"
    [
        (
            "x-forwarded-for",
            "192.0.2.1",
        ),
        (
            "x-forwarded-host",
            "media.example",
        ),
        (
            "x-forwarded-proto",
            "http",
        ),
    ]
    "#);
    let secure = HeaderMap::from_iter([(X_FORWARDED_PROTO, HeaderValue::from_static("https"))]);
    let proxied = Client { by_proxy: true, ..stranger.clone() };
    assert!(proxied.is_over_tls(&secure) && !proxied.is_over_tls(&HeaderMap::new()));
    assert!(!stranger.is_over_tls(&secure), "who is not trusted claims it");
    let over_tls = Client { over_tls: true, ..stranger };
    assert!(over_tls.is_over_tls(&HeaderMap::new()));
    assert!(told(&over_tls, &[]).contains(&("x-forwarded-proto".into(), "https".into())));
}

#[test]
fn servers_behind_are_told_what_a_trusted_proxy_says_and_the_proxy() {
    let proxied = client("10.0.0.1", TrustedHeader::XForwardedFor, &CLAIMS);
    insta::assert_debug_snapshot!(told(&proxied, &CLAIMS), @r#"
    [
        (
            "x-forwarded-for",
            "198.51.100.7, 10.0.0.1",
        ),
        (
            "x-forwarded-host",
            "shop.example",
        ),
        (
            "x-forwarded-port",
            "443",
        ),
        (
            "x-forwarded-proto",
            "https",
        ),
    ]
    "#);
    let odd = told(&proxied, &[("x-forwarded-proto", "gopher")]);
    assert!(odd.contains(&("x-forwarded-proto".into(), "http".into())), "{odd:?}");
}

#[test]
fn a_network_is_what_one_client_has_at_hand() {
    for (one, other, same) in [
        ("192.0.2.1", "192.0.2.254", true),
        ("192.0.2.1", "192.0.3.1", false),
        ("::ffff:192.0.2.1", "192.0.2.2", true),
        ("::ffff:192.0.2.1", "::ffff:192.0.3.1", false),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("127.0.0.1", "::1", false),
    ] {
        let network = |address: &str| ClientNetwork::of(address.parse().unwrap());
        assert_eq!(network(one) == network(other), same, "{one} {other}");
    }
}
