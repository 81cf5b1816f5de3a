//! `[[service]]`.

use std::time::Duration;

use http::Method;
use sluice_gateway::{
    config::{HealthCheck, HostPolicy, Price, Protocol},
    limits::{Allowance, Freebies, LimitsConfig, RateKey, RateLimit, RateRule, TrustedHeader},
};

use super::*;

/// A service, and more lines of it.
fn service(more: &str) -> String {
    format!("[[service]]\nname = \"a\"\n{more}")
}

/// With what else a gateway needs.
fn load_gateway(text: &str, env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    load_with(text, env, &Flags::default(), Parts::Gateway)
}

#[test]
fn services_say_what_is_theirs_and_what_of_it_costs() {
    let text = service(
        r#"hosts = ["api.example", "*.api.example"]
        paths = ["/v1/*"]
        methods = ["GET", "POST"]
        free = ["GET /v1/ping"]
        auth_only = ["/v1/stream*"]
        price_sat = 5
        upstream = ["h2c://a:1", "h2c://b:2"]
        upstream_host = "upstream"
        health_check = "/healthz"
        health_check_secs = 9
        rewrite = { from = "/v1", to = "/" }"#,
    );
    let settings = load_gateway(&text, &[]).unwrap();
    let [service] = &settings.services().unwrap()[..] else { panic!("one service") };
    let sells = |method: Method, host: &str, path: &str| service.offer.sells(&method, host, path);
    assert!(sells(Method::POST, "x.api.example:8081", "/v1/ping") && sells(Method::GET, "api.example", "/v1/a"));
    assert!(!sells(Method::GET, "api.example", "/v1/ping") && !sells(Method::GET, "api.example", "/v1/stream/1"));
    assert!(!sells(Method::PUT, "api.example", "/v1/a") && !sells(Method::GET, "example", "/v1/a"));
    assert_eq!((&service.offer.price, service.offer.forward_credential), (&Price::Flat(5), false));
    let upstream = &service.upstream;
    assert_eq!(
        (upstream.protocol, upstream.addresses.len(), &upstream.host),
        (Protocol::H2c, 2, &HostPolicy::Upstream)
    );
    let check = HealthCheck { path: Some("/healthz".into()), every: Duration::from_secs(9) };
    assert_eq!(upstream.health_check, Some(check));
    assert_eq!(service.offer.scope.rewrite.as_ref().unwrap().apply("/v1/a").as_deref(), Some("/a"));

    let effective = settings.effective();
    let again: Settings = toml::from_str(&toml::to_string(&effective).unwrap()).unwrap();
    assert_eq!(again.services, effective.services);
}

#[test]
fn credentials_are_shown_to_the_media_server_alone_unless_it_is_said() {
    for (more, shown) in [
        ("protect = [\"POST /largefile\"]", true),
        ("protect = [\"POST /largefile\"]\nupstream = \"backend:8083\"", true),
        ("protect = [\"POST /m/largefile\"]\nupstream = \"b:1\"\nrewrite = { from = \"/m\", to = \"/\" }", true),
        ("protect = [\"POST /largefile\"]\nforward_credential = false", false),
        ("protect = [\"POST /other\"]\nupstream = \"b:1\"", false),
        ("free = []\nupstream = \"b:1\"", false),
        ("free = []\nupstream = \"b:1\"\nforward_credential = true", true),
    ] {
        let settings = load_gateway(&service(&format!("price_sat = 1\n{more}")), &[]).unwrap();
        assert_eq!(settings.services().unwrap()[0].offer.forward_credential, shown, "{more}");
    }
}

#[test]
fn the_media_server_takes_the_tokens_of_all_services_that_sell_its_uploads() {
    let api = "[[service]]\nname = \"api\"\nfree = []\nprice_sat = 1\nhosts = [\"api.example\"]\nupstream = \"b:1\"\n";
    let media = service(
        "protect = [\"POST /m/largefile\"]\nrewrite = { from = \"/m\", to = \"/\" }\nprice = { per_mib_sat = 2 }",
    );
    let settings = load_file(&format!("{api}{media}")).unwrap();
    let terms = |settings: &Settings| {
        let terms = settings.media_terms().unwrap();
        terms.all().map(|terms| (terms.name.clone(), terms.form_allowance_bytes)).collect::<Vec<_>>()
    };
    assert_eq!(terms(&settings), [("a".to_owned(), 32_768)]);
    let other = "[[service]]\nname = \"b\"\nhosts = [\"b.example\"]\nprotect = [\"POST /largefile\"]\nprice_sat = 1\n";
    let settings = load_file(&format!("{api}{other}{media}")).unwrap();
    assert_eq!(terms(&settings), [("b".to_owned(), 0), ("a".to_owned(), 32_768)]);
    assert!(load_gateway(api, &[]).is_ok(), "a gateway alone needs no media server");
    assert!(load_file(api).is_err());
}

#[test]
fn only_where_the_file_is_measured_it_may_have_more_than_its_mb() {
    for (more, bytes) in [("", 32_768), ("forward_credential = false", 0), ("upstream = \"b:1\"", 32_768)] {
        let text = service(&format!("protect = [\"POST /largefile\"]\nprice = {{ per_mib_sat = 2 }}\n{more}"));
        let services = load_gateway(&text, &[]).unwrap().services().unwrap();
        assert_eq!(services[0].offer.terms.form_allowance_bytes, bytes, "{more}");
    }
}

#[test]
fn prices_are_said_in_one_way() {
    let price = |text: &str| {
        let settings = load_gateway(&service(&format!("protect = [\"POST /x\"]\nupstream = \"b:1\"\n{text}")), &[])?;
        Ok::<_, ConfigError>(settings.services()?.remove(0).offer.price)
    };
    assert_eq!(price("price_sat = 0").unwrap(), Price::Flat(0));
    let per_mib = price("price = { per_mib_sat = 2, minimum_sat = 10 }").unwrap();
    assert_eq!(per_mib, Price::PerMib { per_mib_sat: 2, minimum_sat: 10 });
    let steps = price("price = { steps = [{ up_to_mib = 1, price_sat = 0 }, { price_sat = 9 }] }").unwrap();
    assert_eq!((steps.of(1), steps.of(2)), (Some(0), Some(9)));
    let Price::External(pricer) = price("price = { url = \"http://p/?key=hunter2\", fallback = \"last\" }").unwrap()
    else {
        panic!("a pricer")
    };
    assert_eq!((pricer.timeout, pricer.by_size, pricer.last_as_fallback), (Duration::from_secs(2), false, true));
    assert!(!format!("{pricer:?}").contains("hunter2"));
    for (text, error) in [
        ("", "is missing: say price_sat or price"),
        ("price_sat = 1\nprice = { per_mib_sat = 1 }", "say price_sat or price, not both"),
        ("price = {}", "not a mixture"),
        ("price = { per_mib_sat = 1, url = \"http://p\" }", "not a mixture"),
        ("price = { minimum_sat = 1 }", "not a mixture"),
        ("price = { steps = [{ up_to_mib = 1, price_sat = 1 }] }", "the last step must go up to max_upload_mb"),
        ("price = { url = \"p\" }", "url must be http://HOST"),
    ] {
        let found = price(text).unwrap_err().to_string();
        assert!(found.starts_with("service `a`: price: ") && found.contains(error), "{found}");
    }
}

#[test]
fn headers_come_from_the_environment_and_from_files_and_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, "hunter2-file\n").unwrap();
    let text = service(&format!(
        "free = []\nprice_sat = 1\nupstream = \"b:1\"\nheaders = {{ A = \"Bearer ${{KEY}}-${{OTHER}}!\", B = \"file:{}\", C = \"hunter2\" }}",
        file.display()
    ));
    let settings = load_gateway(&text, &[("KEY", "hunter2-env"), ("OTHER", "${KEY}")]).unwrap();
    let services = settings.services().unwrap();
    let values: Vec<_> = services[0].upstream.headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
    assert_eq!(values, ["Bearer hunter2-env-${KEY}!", "hunter2-file", "hunter2"], "and nothing is resolved twice");
    let shown = format!("{settings:?} {services:?} {}", toml::to_string(&settings.effective()).unwrap());
    assert!(!shown.contains("hunter2") && shown.contains("file:/"), "{shown}");

    let missing = error_of(load_gateway(&text, &[("KEY", "hunter2")]));
    assert_eq!(missing, "service `a`: headers: `A` needs the environment variable OTHER, which is not set");
    assert!(
        load_with(&text, &[], &Flags::default(), Parts::Backend)
            .is_err_and(|error| !error.to_string().contains("OTHER"))
    );
    fs::remove_file(&file).unwrap();
    let unread = settings.services().unwrap_err().to_string();
    assert!(unread.starts_with("service `a`: headers: /") && unread.contains("No such file"), "{unread}");
}

#[test]
fn says_whose_setting_is_wrong() {
    for (more, error) in [
        ("price_sat = 1", "service `a`: say what costs (protect) or what does not (free), one of the two"),
        (
            "price_sat = 1\nprotect = [\"/a\"]\nfree = []",
            "service `a`: say what costs (protect) or what does not (free), one of the two",
        ),
        ("price_sat = 1\nprotect = []", "service `a`: protect is empty"),
        ("price_sat = 1\nfree = [\"a\"]", "service `a`: `a` is not METHOD /path"),
        ("price_sat = 1\nfree = []\nauth_only = [\"HEAD /a\"]", "service `a`: `HEAD /a` is not METHOD /path"),
        ("price_sat = 1\nfree = []\nhosts = [\"a:1\"]", "service `a`: `a:1` is not a host name"),
        ("price_sat = 1\nfree = []\npaths = [\"a\"]", "service `a`: `a` is not /path"),
        ("price_sat = 1\nfree = []\nmethods = [\"G ET\"]", "service `a`: `G ET` is no method"),
        ("price_sat = 1\nfree = []\nupstream = \"a\"", "service `a`: upstream must be HOST:PORT"),
        ("price_sat = 1\nfree = []\nupstream = [\"a:1\", \"https://b\"]", "service `a`: all upstreams of a service"),
        ("price_sat = 1\nfree = []\nupstream_ca = \"ca.pem\"", "service `a`: upstream_ca is for https://"),
        ("price_sat = 1\nfree = []\nupstream_host = \"a b\"", "service `a`: upstream_host must be"),
        ("price_sat = 1\nfree = []\nhealth_check = \"http\"", "service `a`: health_check must be"),
        ("price_sat = 1\nfree = []\nrewrite = { from = \"a\", to = \"/\" }", "service `a`: rewrite must be"),
        ("price_sat = 1\nfree = []\nheaders = { Host = \"a\" }", "service `a`: headers: `Host` cannot be set"),
    ] {
        let found = error_of(load_gateway(&service(more), &[]));
        assert!(found.starts_with(error), "{found}");
    }
    let missing = service("free = []\nprice_sat = 1\nupstream = \"https://a\"\nupstream_ca = \"/no/such/ca.pem\"");
    let error = load_gateway(&missing, &[]).unwrap().services().unwrap_err().to_string();
    assert!(error.starts_with("service `a`: upstream_ca: /no/such/ca.pem: "), "{error}");
}

#[test]
fn the_services_that_operators_are_shown_work() {
    let (_, section) = include_str!("../../../../docs/OPERATING.md").split_once("## Other services").unwrap();
    let (text, _) = section.split_once("```toml\n").unwrap().1.split_once("```").unwrap();
    let settings = load_file(text).unwrap();
    assert_eq!(settings.services.len(), 3);
    assert!(settings.media_terms().unwrap().all().map(|terms| &terms.name).eq(["media"]));
}

#[test]
fn rates_are_of_requests_as_they_are_protected() {
    let text = service(
        r#"protect = ["POST /a"]
        price_sat = 1
        upstream = "b:1"
        rate_limits = [{ requests = "GET /r/*", per_minute = 60, burst = 10, key = "token" }, { per_minute = 7 }]"#,
    );
    let settings = load_gateway(&text, &[]).unwrap();
    let positive = |number| std::num::NonZeroU32::new(number).unwrap();
    let rule = |requests: Option<&str>, per_minute, burst, key| RateRule {
        requests: requests.map(|requests| requests.parse().unwrap()),
        limit: RateLimit { per_minute: positive(per_minute), burst: positive(burst) },
        key,
    };
    let rules = [rule(Some("GET /r/*"), 60, 10, RateKey::Token), rule(None, 7, 7, RateKey::Client)];
    assert_eq!(settings.services().unwrap()[0].offer.rate_limits, rules);
    for (limit, part) in [
        ("{ requests = \"HEAD /a\", per_minute = 1 }", "service `a`: `HEAD /a` is not METHOD /path"),
        ("{ per_minute = 0 }", "test.toml:5:"),
        ("{ per_minute = 1, burst = 0 }", "test.toml:5:"),
        ("{ per_minute = 1, key = \"ip\" }", "unknown variant `ip`"),
        ("{ }", "missing field `per_minute`"),
    ] {
        let text = service(&format!("protect = [\"POST /a\"]\nprice_sat = 1\nrate_limits = [{limit}]"));
        let error = error_of(load_gateway(&text, &[]));
        assert!(error.contains(part), "{limit}: {error}");
    }
}

#[test]
fn networks_of_clients_are_read_and_nothing_that_is_none() {
    let text = "[gateway.limits]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\ntrusted_header = \"forwarded\"\n\
                blocklist = [\"2001:db8::/32\"]\nhead_timeout_secs = 7\nmin_body_rate = 0";
    let limits = load_file(text).unwrap().gateway.limits.config();
    assert_eq!(limits.proxies.networks, ["10.0.0.0/8", "::1/128"].map(|text| text.parse().unwrap()));
    assert_eq!((limits.proxies.header, limits.blocklist.len()), (TrustedHeader::Forwarded, 1));
    assert_eq!((limits.slow.head_timeout.as_secs(), limits.slow.min_body_rate), (7, 0));
    assert_eq!(load_file("").unwrap().gateway.limits.config(), LimitsConfig::default());
    for wrong in
        ["blocklist = [\"10.0.0.1/8\"]", "trusted_proxies = [\"proxy.example\"]", "trusted_header = \"x-real-ip\""]
    {
        let error = load_file(&format!("[gateway.limits]\n{wrong}")).unwrap_err().to_string();
        assert!(error.contains("test.toml:2:"), "{error}");
    }
}

#[test]
fn free_uploads_are_those_of_the_media_server_as_its_clients_name_them() {
    for (more, path) in [
        ("protect = [\"POST /largefile\"]", Some("/file")),
        ("protect = [\"POST /largefile\"]\nforward_credential = false", Some("/template")),
        (
            "protect = [\"POST /m/largefile\"]\nupstream = \"b:1\"\nrewrite = { from = \"/m\", to = \"/\" }",
            Some("/m/upload"),
        ),
        ("protect = [\"POST /other\"]\nupstream = \"b:1\"", None),
    ] {
        let settings = load_gateway(&service(&format!("price_sat = 1\n{more}")), &[]).unwrap();
        let free = &settings.services().unwrap()[0].offer.free_uploads;
        assert_eq!(free.len(), if path.is_some() { 4 } else { 0 }, "{more}");
        let covers = |method: Method| free.iter().any(|one| path.is_some_and(|path| one.covers(&method, path)));
        assert_eq!((covers(Method::POST), covers(Method::GET)), (path.is_some(), false), "{more}");
    }
    let limits = |text: &str| load_file(text).unwrap().gateway.limits.config().free_upload_bytes_per_day;
    assert_eq!(limits(""), Some(1 << 30));
    assert_eq!(limits("[gateway.limits]\nfree_upload_mb_per_day = 3"), Some(3 << 20));
    assert_eq!(limits("[gateway.limits]\nfree_upload_mb_per_day = 0"), None);
}

#[test]
fn freebies_are_requests_or_bytes_in_a_window() {
    let load = |freebies: &str| {
        let text =
            service(&format!("protect = [\"POST /a\"]\nprice_sat = 1\nupstream = \"b:1\"\nfreebies = {freebies}"));
        load_gateway(&text, &[])
    };
    let allowance = |most, secs| Allowance { most, window: Duration::from_secs(secs) };
    for (freebies, expected) in [
        ("{ requests = 3 }", Freebies::Requests(allowance(3, 86_400))),
        ("{ mb = 2, window_secs = 60 }", Freebies::Bytes(allowance(2 << 20, 60))),
    ] {
        assert_eq!(load(freebies).unwrap().services().unwrap()[0].offer.freebies, Some(expected));
    }
    for wrong in ["{ }", "{ requests = 1, mb = 1 }"] {
        assert_eq!(error_of(load(wrong)), "service `a`: freebies: say either requests or mb");
    }
    assert!(error_of(load("{ requests = 0 }")).contains("test.toml:6:"));
}

#[test]
fn a_token_is_used_as_often_as_is_said_and_once_where_a_size_is_paid() {
    let max_uses = |more: &str| {
        let text = service(&format!("protect = [\"POST /a\"]\nupstream = \"a:1\"\n{more}"));
        load_gateway(&text, &[]).and_then(|settings| Ok(settings.services()?[0].offer.terms.max_uses))
    };
    for (more, uses) in [
        ("price_sat = 5", None),
        ("price_sat = 5\nreuse = 7", Some(7)),
        ("price_sat = 5\nmax_uses = 7", Some(7)),
        ("price_sat = 5\nreuse = \"until_expiry\"", None),
        ("price = { per_mib_sat = 2 }", Some(1)),
        ("price = { steps = [{ price_sat = 2 }] }", Some(1)),
        ("price = { url = \"http://a/\", by_size = true }", Some(1)),
        ("price = { url = \"http://a/\" }", None),
        ("price = { per_mib_sat = 2 }\nreuse = 3", Some(3)),
        ("price = { per_mib_sat = 2 }\nreuse = \"until_expiry\"", None),
    ] {
        assert_eq!(max_uses(more).unwrap(), uses, "{more}");
    }
    let seen = max_uses("price_sat = 5\nreuse = 2\nforward_credential = true").unwrap_err().to_string();
    assert!(seen.contains("nobody would count"), "{seen}");
    for more in ["reuse = 0", "reuse = -1", "reuse = \"always\"", "reuse = true", "reuse = 1\nmax_uses = 1"] {
        let error = max_uses(&format!("price_sat = 5\n{more}")).unwrap_err().to_string();
        assert!(error.contains("reuse") || error.contains("max_uses"), "{error}");
    }
}
